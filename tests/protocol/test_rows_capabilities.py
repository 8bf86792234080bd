"""What is announced, what can be switched off, and the rules for all replies."""

from __future__ import annotations

import pytest
from dialogue import HOSTNAME, codes, connected, greeted, with_recipients, with_sender

from lmtp_twisted import PermanentFailure, Reply
from lmtp_twisted.testing import ScriptedDeliveries

ALWAYS = ["PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME"]


def announced(**settings: object) -> dict[str, str]:
    """The capabilities by keyword, with their arguments."""
    lines = connected(**settings).say("LHLO c")
    assert lines[0][4:].split()[0] == HOSTNAME
    return {word: rest for word, _, rest in (line[4:].partition(" ") for line in lines[1:])}


def test_these_are_always_announced() -> None:
    """RFC 2033 §5 and the RFC of each."""
    capabilities = announced(size_limit=12345, max_recipients=77)
    assert capabilities == dict.fromkeys(ALWAYS, "") | {"SIZE": "12345", "LIMITS": "RCPTMAX=77"}


def test_no_size_limit_is_announced_as_zero() -> None:
    """RFC 1870 §4."""
    assert announced(size_limit=0)["SIZE"] == "0"


@pytest.mark.parametrize("name", ["DSN", "MT-PRIORITY"])
def test_these_are_announced_by_option_alone(name: str) -> None:
    """RFC 3461 §5.2: who announces DSN takes over the duty to report success; RFC 6710 §4."""
    assert name not in announced()
    assert name in announced(enabled=[name])
    assert name in announced(enabled=name.lower())


@pytest.mark.parametrize("name", ["STARTTLS", "AUTH", "XCLIENT", "XFORWARD", "REQUIRETLS", "VRFY", "EXPN", "HELP"])
def test_these_are_not_announced(name: str) -> None:
    """Nothing is announced that is not there: no TLS, no portal, no trusted peer."""
    assert name not in announced()


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("8BITMIME", {"8BITMIME", "SMTPUTF8"}),
        ("SMTPUTF8", {"SMTPUTF8"}),
        ("CHUNKING", {"CHUNKING", "BINARYMIME"}),
        ("BINARYMIME", {"BINARYMIME"}),
        ("SIZE", {"SIZE"}),
        ("LIMITS", {"LIMITS"}),
        ("chunking", {"CHUNKING", "BINARYMIME"}),
    ],
)
def test_a_capability_can_be_switched_off_with_what_rests_on_it(name: str, gone: set[str]) -> None:
    """RFC 6531 §3.1 needs 8BITMIME, RFC 3030 §3 needs CHUNKING."""
    assert announced().keys() - announced(disabled=[name]).keys() == gone
    assert announced().keys() - announced(disabled=name).keys() == gone


@pytest.mark.parametrize("name", ["DSN", "MT-PRIORITY"])
def test_what_is_switched_off_is_not_announced_even_where_it_is_switched_on(name: str) -> None:
    """Off wins."""
    assert name not in announced(enabled=[name], disabled=[name])


@pytest.mark.parametrize(
    "name",
    ["PIPELINING", "ENHANCEDSTATUSCODES", "LHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "NONSENSE", ""],
)
def test_these_cannot_be_switched_off(name: str) -> None:
    """RFC 2033 §5 asks for the two, RFC 5321 §4.5.1 for the commands."""
    with pytest.raises(ValueError, match="disabled"):
        connected(disabled=[name])


@pytest.mark.parametrize(
    ("disabled", "parameter"),
    [
        ("SIZE", "SIZE=1"),
        ("SMTPUTF8", "SMTPUTF8"),
        ("8BITMIME", "SMTPUTF8"),
        ("8BITMIME", "BODY=8BITMIME"),
        ("BINARYMIME", "BODY=BINARYMIME"),
        ("CHUNKING", "BODY=BINARYMIME"),
        ("DSN", "RET=FULL"),
        ("DSN", "ENVID=x"),
        ("MT-PRIORITY", "MT-PRIORITY=1"),
    ],
)
def test_a_parameter_of_mail_goes_with_its_capability(disabled: str, parameter: str) -> None:
    """RFC 5321 §4.1.1.11."""
    client = greeted(disabled=[disabled])
    assert codes(client.say(f"MAIL FROM:<a@x> {parameter}")) == ["555 5.5.4"]
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]
    assert codes(greeted().say(f"MAIL FROM:<a@x> {parameter}")) == ["250 2.1.0"]


@pytest.mark.parametrize("parameter", ["NOTIFY=NEVER", "ORCPT=rfc822;a@x"])
def test_a_parameter_of_rcpt_goes_with_its_capability(parameter: str) -> None:
    """RFC 5321 §4.1.1.11."""
    client = with_sender(disabled=["DSN"])
    assert codes(client.say(f"RCPT TO:<a@x> {parameter}")) == ["555 5.5.4"]
    assert codes(client.say("RCPT TO:<a@x>")) == ["250 2.1.5"]


@pytest.mark.parametrize("line", ["VRFY a", "EXPN a", "HELP", "VRFY", "vrfy a"])
@pytest.mark.parametrize("stage", [connected, greeted, with_recipients])
def test_a_command_that_is_switched_off_is_502(line: str, stage) -> None:  # type: ignore[no-untyped-def]
    """RFC 5321 §4.2.4."""
    client = stage(disabled=["VRFY", "EXPN", "HELP"])
    assert codes(client.say(line)) == ["502 5.5.1"]


@pytest.mark.parametrize("last", [b"", b" LAST"])
@pytest.mark.parametrize("stage", [connected, greeted, with_sender, with_recipients])
def test_bdat_that_is_switched_off_is_read_away_and_502(stage, last: bytes) -> None:  # type: ignore[no-untyped-def]
    """RFC 3030 §2: its octets come all the same, and none of them is a command."""
    client = stage(disabled=["CHUNKING"])
    assert codes(client.send(b"BDAT 6" + last + b"\r\nQUIT\r\nNOOP\r\n")) == ["502 5.5.1", "250 2.0.0"]
    if stage is with_recipients:
        assert codes(client.content()) == ["250 2.0.0"]
    if stage is with_sender:
        assert codes(client.say("RCPT TO:<a@x>")) == ["250 2.1.5"]


def test_pipelining_a_whole_session_in_one_segment_works() -> None:
    """RFC 2920 §3.1."""
    client = connected()
    replies = client.say(
        "LHLO c",
        "MAIL FROM:<a@x>",
        "RCPT TO:<b@x>",
        "RCPT TO:<>",
        "DATA",
        "Subject: x",
        "",
        ".",
        "RSET",
        "NOOP",
        "QUIT",
    )
    answers = codes(replies)
    assert answers[answers.index("250 2.1.0") :] == [
        "250 2.1.0",
        "250 2.1.5",
        "501 5.1.3",
        "354",
        "250 2.0.0",
        "250 2.0.0",
        "250 2.0.0",
        "221 2.0.0",
    ]


# All replies


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\r\nb", "a b"),
        ("a\nb", "a b"),
        ("a\rb", "a b"),
        ("a\tb", "a b"),
        ("a\x00b\x1b[31m\x7f", "a?b?[31m?"),
        ("a\x85b\x9fc", "a?b?c"),
        ("Grüße €", r"Gr\x{FC}\x{DF}e \x{20AC}"),
        ("\U0001f600", r"\x{1F600}"),
        ("\u2028", r"\x{2028}"),
        ("a\r\n250 2.0.0 forged", "a 250 2.0.0 forged"),
    ],
)
def test_the_words_of_a_handler_are_made_one_line_of_ascii(text: str, words: str) -> None:
    """RFC 5321 §4.2, RFC 6533 §3: no reply can be injected."""
    refusal = PermanentFailure(text)
    deliveries = ScriptedDeliveries(
        {"out@x": refusal, "reply@x": Reply(554, "5.0.0", text), "text@x": text},
        senders={"no@x": refusal},
        recipients={"no@x": refusal},
    )
    client = greeted(deliveries)
    assert client.say("MAIL FROM:<no@x>") == [f"550 5.7.1 {words}"]
    client.say("MAIL FROM:<a@x>")
    assert client.say("RCPT TO:<no@x>") == [f"550 5.1.1 {words}"]
    client.say("RCPT TO:<out@x>", "RCPT TO:<reply@x>", "RCPT TO:<text@x>")
    replies = client.content()
    assert len(replies) == 3
    assert [line[:3] for line in replies] == ["554", "554", "250"]
    assert all(line.endswith(words) for line in replies)


@pytest.mark.parametrize("character", ["x", "ü", "\x00", "\U0001f600", "\r\n"])
def test_words_that_are_too_long_are_cut(character: str) -> None:
    """RFC 5321 §4.5.3.1.5: 512 octets with the CRLF."""
    refusal = PermanentFailure(character * 10_000)
    local = "r" * 200
    deliveries = ScriptedDeliveries(
        {f"{local}@x": refusal, "reply@x": Reply(250, None, character * 10_000)},
        recipients={"no@x": refusal},
        senders={"no@x": refusal},
    )
    client = greeted(deliveries)
    replies = client.say(
        "MAIL FROM:<no@x>", "MAIL FROM:<a@x>", "RCPT TO:<no@x>", f"RCPT TO:<{local}@x>", "RCPT TO:<reply@x>"
    )
    replies += client.content()
    assert codes(replies) == ["550 5.7.1", "250 2.1.0", "550 5.1.1", "250 2.1.5", "250 2.1.5", "554 5.3.0", "250 2.0.0"]
    for line in replies:
        assert len(line) <= 510
        assert not line.count("\\x{") != line.count("}")


def test_the_longest_recipient_is_named_and_the_line_stays_short() -> None:
    """RFC 5321 §4.5.3.1.5."""
    client = greeted(ScriptedDeliveries())
    recipient = "ü" * 120 + "@x"
    client.say("MAIL FROM:<> SMTPUTF8", f"RCPT TO:<{recipient}>")
    (reply,) = client.content()
    assert codes([reply]) == ["250 2.0.0"]
    assert reply.startswith(r"250 2.0.0 <\x{FC}\x{FC}")


def test_each_final_reply_names_its_recipient_and_an_id() -> None:
    """RFC 2033 §4.2: an operator can search for it."""
    outcomes = {"no@x": PermanentFailure("no"), "text@x": "text"}
    client = with_recipients(ScriptedDeliveries(outcomes), "a@x", "no@x", "text@x", '"a b"@x')
    session = client.protocol.session.id
    for number, (line, name) in enumerate(zip(client.content(), ("a@x", "no@x", "text@x", '"a b"@x'), strict=True), 1):
        assert line.split(" ", 2)[2].startswith(f"<{name}> {session}.1.{number} ")


def test_unknown_parameters_and_names_are_not_echoed_raw() -> None:
    """RFC 5321 §4.2."""
    client = greeted()
    for line in (b"MAIL FROM:<a@x> FOO\xff=1", b"MAIL FROM:<a\x1b[31m@x>", b"\xff\xfe\x00", b"MAIL FROM:<a@x> \x07=1"):
        assert len(client.send(line + b"\r\n")) == 1
