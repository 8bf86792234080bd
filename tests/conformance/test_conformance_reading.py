"""Files of scenarios: what is in them, and what is said of those that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmtp_twisted.conformance import needs, placeholders
from lmtp_twisted.conformance.reading import ScenarioError, read_scenarios
from lmtp_twisted.conformance.scenario import OPTIONS, Act, Expect, Level, Need, Send

GOOD = """\
# A comment.
= data/example
RFC: 5321 §4.1.1.4
Level: SHOULD
Needs: CHUNKING, !AUTH=PLAIN, unknown
After: data
Split: no

C: one
C| two\\r\\n
S *2: 250|354 (250 2.0.0) for {rcpt1}
! cut
E: 5xx, closed
A: 2xx
S: silence
S: closed
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a file of scenarios can be written."""
    return tmp_path / "example.txt"


def test_a_scenario_is_read(file: Path) -> None:
    """Its fields, its steps, and those of its beginning."""
    file.write_text(GOOD, "utf-8")
    (scenario,) = read_scenarios([file])
    assert (scenario.name, scenario.reference, scenario.level) == ("data/example", "RFC 5321 §4.1.1.4", Level.SHOULD)
    assert scenario.needs == (Need("CHUNKING"), Need("AUTH", "PLAIN", True), Need("unknown"))
    assert not scenario.can_be_split
    assert scenario.start == "session"
    assert [step.text for step in scenario.opening if isinstance(step, Send)] == [
        "MAIL FROM:<{sender}>\\r\\n",
        "RCPT TO:<{rcpt1}>\\r\\n",
        "DATA\\r\\n",
    ]
    one, two, expect, act, end, absence, silence, closed = scenario.steps
    assert isinstance(one, Send)
    assert isinstance(two, Send)
    assert (one.text, two.text) == ("one\\r\\n", "two\\r\\n")
    assert isinstance(expect, Expect)
    assert expect.pattern is not None
    assert (expect.times, expect.pattern.codes, expect.pattern.recipient) == ("2", ("250", "354"), "{rcpt1}")
    assert (expect.pattern.code, expect.pattern.enhanced) == ("250", "2.0.0")
    assert act == Act("cut", 12)
    assert isinstance(end, Expect)
    assert (end.is_end, end.then_closed, end.is_absence) == (True, True, False)
    assert isinstance(absence, Expect)
    assert (absence.is_end, absence.is_absence) == (True, True)
    assert isinstance(silence, Expect)
    assert silence.is_silence
    assert isinstance(closed, Expect)
    assert closed.pattern is None
    assert not closed.is_silence


@pytest.mark.parametrize("step", ["C: {repeat size-20 x}", "C: BDAT {size+1}", "C| {lines size}", "S *size: 250"])
def test_what_is_made_of_a_limit_needs_one(file: Path, step: str) -> None:
    """Whether the file says so or not: without it there is nothing to send."""
    file.write_text(f"{START}{step}\nS: 250 for {{rcpt1}}\n", "utf-8")
    (scenario,) = read_scenarios([file])
    assert scenario.needs == (Need("size"),)


START = "= data/example\nRFC: 5321\nLevel: MUST\n"
WRONG = {
    "": "1: there is no scenario in it",
    "# Nothing.\n": "1: there is no scenario in it",
    "C: NOOP\n": "1: a title has to come first, such as '= data/empty-message'",
    "= Data Example\n": "1: '= Data Example' is no title, such as '= data/empty-message'",
    "=data/example\n": "1: '=data/example' is no title, such as '= data/empty-message'",
    f"{START}S: 250\n{START}S: 250\n": "5: data/example is there already",
    "= data/example\nLevel: MUST\nS: 250\n": "1: data/example has no RFC",
    "= data/example\nRFC: 5321\nS: 250\n": "1: data/example has no Level",
    "= data/example\nRFC: 5321\nLevel: must\nS: 250\n": "3: 'must' is none of the levels MUST, SHOULD, beyond",
    "= data/example\nRFC:\nLevel: MUST\nS: 250\n": "2: RFC has no value",
    f"{START}RFC: 5322\nS: 250\n": "4: RFC is given twice",
    f"{START}Colour: blue\nS: 250\n": "4: Colour is none of the fields After, Level, Needs, RFC, Split",
    f"{START}S: 250\nNeeds: SIZE\n": "5: Needs stands behind a step",
    f"{START}Needs: SIZE,AUTH\nS: 250\n": "4: 'SIZE,AUTH' is neither a capability nor an option",
    f"{START}Needs: colour\nS: 250\n": "4: 'colour' is neither a capability nor an option",
    f"{START}Split: perhaps\nS: 250\n": "4: 'perhaps' is neither yes nor no",
    f"{START}After: lunch\nS: 250\n": "4: there is no beginning 'lunch'",
    f"{START}C: NOOP\n": "1: data/example expects nothing",
    f"{START}S: 2x0\n": "4: '2x0' is no pattern of a reply",
    f"{START}S: 250 (2.0.0 250)\n": "4: '250 (2.0.0 250)' is no pattern of a reply",
    f"{START}S: 250 for {{nobody}}\n": "4: {nobody} is no placeholder",
    f"{START}C: {{nobody}}\nS: 250\n": "4: {nobody} is no placeholder",
    f"{START}C: {{repeat many x}}\nS: 250\n": "4: 'many' is no number",
    f"{START}C: {{repeat 9999999999 x}}\nS: 250\n": "4: '9999999999' is 9999999999, which is too little or too much",
    f"{START}C: \\q\nS: 250\n": "4: \\q is no escape",
    f"{START}C: a\\\nS: 250\n": "4: \\ is no escape",
    f"{START}C *-1: NOOP\nS: 250\n": "4: '-1' is no number",
    f"{START}C *often: NOOP\nS: 250\n": "4: 'often' is no number",
    f"{START}S| 250\n": "4: S| is no step",
    f"{START}E: 250, open\nS: 250\n": "4: 'open' is not 'closed'",
    f"{START}! dance\nS: 250\n": "4: 'dance' is none of close writing, cut, handshake, handshake or end",
    f"{START}250\n": "4: '250' is neither a field nor a step",
    f"{START}X: 250\n": "4: X is none of the fields After, Level, Needs, RFC, Split",
    "= begin/mine\nAfter: mine\nS: 250\n" + f"{START}After: mine\nS: 250\n": "2: 'mine' would begin with itself",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_its_line(file: Path, text: str) -> None:
    """So that who writes one finds it."""
    file.write_text(text, "utf-8")
    with pytest.raises(ScenarioError) as caught:
        read_scenarios([file])
    assert str(caught.value) == f"{file}:{WRONG[text]}"


def test_what_is_no_text_is_said_to_be_none(file: Path) -> None:
    """With the line where it begins."""
    file.write_bytes(b"# one\n# two \xff\n")
    with pytest.raises(ScenarioError, match=r":2: it is not UTF-8$"):
        read_scenarios([file])


def test_a_file_that_is_not_there_is_said_not_to_be(file: Path) -> None:
    """In the words of the system."""
    with pytest.raises(ScenarioError, match=r":0: No such file or directory$"):
        read_scenarios([file])


def test_a_huge_file_is_not_read(file: Path) -> None:
    """It is the wrong one."""
    file.write_bytes(b"# " + b"x" * 2 * 1024 * 1024)
    with pytest.raises(ScenarioError, match=r":0: it has more than 1048576 octets$"):
        read_scenarios([file])


def octets(text: str) -> bytes:
    """What a text of a scenario is on the wire."""
    return placeholders.octets_of(text, lambda name: f"<{name}>".encode(), {"size": 1000, "rcptmax": 3})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\\r\\n\\t\\0\\\\b", b"a\r\n\t\0\\b"),
        ("\\xff\\x7b", b"\xff{"),
        ("ä", "ä".encode()),
        ("{sender}!", b"<sender>!"),
        ("{size} {size+1} {size-1}", b"1000 1001 999"),
        ("{repeat 3 ab\\r\\n}", b"ab\r\n" * 3),
        ("{repeat rcptmax x}", b"xxx"),
    ],
)
def test_placeholders_and_escapes_are_filled_in(text: str, expected: bytes) -> None:
    """In what is sent."""
    assert octets(text) == expected


@pytest.mark.parametrize("number", [2, 71, 72, 73, 74, 143, 144, 145, 146, 1000])
def test_lines_are_as_many_octets_as_asked_for(number: int) -> None:
    """They end in CRLF, and none is a dot."""
    text = octets(f"{{lines {number}}}")
    assert len(text) == number
    assert text.endswith(b"\r\n")
    assert b"\n" not in text.replace(b"\r\n", b"")
    assert b"." not in text


def test_the_scenarios_of_the_kit_are_many_and_each_has_its_place() -> None:
    """What PROTOCOL and the RFCs ask for, by the names of the files."""
    scenarios = read_scenarios()
    names = [scenario.name for scenario in scenarios]
    assert len(names) == len(set(names)) > 400
    areas = {name.split("/")[0] for name in names}
    assert areas == {
        *("auth", "bdat", "body", "data", "dsn", "enhanced", "final", "limits", "lines", "mail", "mt-priority"),
        *(
            "pipelining",
            "proxy",
            "rcpt",
            "requiretls",
            "session",
            "size",
            "smtputf8",
            "starttls",
            "xclient",
            "xforward",
        ),
    }
    assert {scenario.level for scenario in scenarios} == set(Level)


def test_each_option_that_scenarios_need_is_known_where_needs_are_met() -> None:
    """An option that nobody can give would make a scenario absent for ever."""
    counted = {"recipients", "size", "rcptmax"}
    assert set(needs.CHECKS) == OPTIONS - counted
    used = {need.name for scenario in read_scenarios() for need in scenario.needs if need.name.islower()}
    assert used <= OPTIONS
