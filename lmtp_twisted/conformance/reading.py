"""
The reader of scenario files::

    # A comment.
    = data/lf-dot-lf-is-content
    RFC: 5321 §4.1.1.4
    Level: MUST
    After: data

    C: one\\n.\\ntwo
    C: .
    S: any for {rcpt1}

``C:`` is a line of the client, which gets its CRLF; ``C|`` are octets as they stand; both go into one segment with
those that follow. ``S:`` is a reply, ``S: closed`` the end of the connection, ``S: silence`` nothing for a moment.
``E:`` is a reply with which the scenario may end as well, ``A:`` one with which it is absent. ``C *100:`` and
``S *100:`` are as many of them. ``!`` is what is done besides sending. ``After:`` names where it begins; what has
``begin/`` before its name is only that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from lmtp_twisted.conformance import placeholders
from lmtp_twisted.conformance.replies import Pattern
from lmtp_twisted.conformance.scenario import ACTS, OPTIONS, STARTS, Act, Expect, Level, Need, Scenario, Send, Step

#: Where the scenarios are that come with the kit.
SCENARIOS = Path(__file__).resolve().parent / "scenarios"

#: Octets of a file.
_LARGEST = 1024 * 1024
_TITLE = re.compile(r"= ([a-z0-9]+(?:-[a-z0-9]+)*/[a-z0-9]+(?:-[a-z0-9]+)*)")
_FIELD = re.compile(r"([A-Z][A-Za-z]*): *(.*)")
_STEP = re.compile(r"([CSEA])(?: \*([a-z0-9+-]+))?([:|])(?: (.*))?")
_NEED = re.compile(r"(!?)([A-Z0-9][A-Z0-9-]*|[a-z][a-z-]*)(?:=([A-Za-z0-9-]+))?")
_FIELDS = frozenset({"RFC", "Level", "After", "Needs", "Split"})
_LEVELS = {"MUST": Level.MUST, "SHOULD": Level.SHOULD, "beyond": Level.BEYOND}
_BEGINNING = "begin/"


class ScenarioError(ValueError):
    """A file of scenarios is wrong; the text begins with its name and the number of the line."""

    def __init__(self, file: Path, line: int, text: str) -> None:
        super().__init__(f"{file}:{line}: {text}")


@attrs.define
class _Draft:
    """What is known of a scenario while its file is read."""

    name: str
    file: Path
    line: int
    fields: dict[str, tuple[int, str]] = attrs.Factory(dict)
    steps: list[Step] = attrs.Factory(list)


def read_scenarios(files: Iterable[Path] | None = None) -> tuple[Scenario, ...]:
    """
    :param files: those to read; by default all that come with the kit.
    :returns: the scenarios, in the order of the files' names.
    :raises ScenarioError: where one is wrong.
    """
    shipped = sorted(SCENARIOS.glob("*.txt"))
    drafts = [draft for file in (shipped if files is None else _with_beginnings(files)) for draft in _drafts(file)]
    named: dict[str, _Draft] = {}
    for draft in drafts:
        if draft.name in named:
            raise ScenarioError(draft.file, draft.line, f"{draft.name} is there already")
        named[draft.name] = draft
    return tuple(_scenario(draft, named) for draft in drafts if not draft.name.startswith(_BEGINNING))


def _with_beginnings(files: Iterable[Path]) -> list[Path]:
    return [SCENARIOS / "beginnings.txt", *files]


def _drafts(file: Path) -> Iterator[_Draft]:
    try:
        with file.open("rb") as stream:
            octets = stream.read(_LARGEST + 1)
        text = octets.decode("utf-8")
    except OSError as error:
        raise ScenarioError(file, 0, error.strerror or str(error))
    except UnicodeDecodeError as error:
        raise ScenarioError(file, octets[: error.start].count(b"\n") + 1, "it is not UTF-8")
    if len(octets) > _LARGEST:
        raise ScenarioError(file, 0, f"it has more than {_LARGEST} octets")
    draft = None
    # Not splitlines(), for which more than a line feed ends a line.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("="):
            match = _TITLE.fullmatch(line)
            if match is None:
                raise ScenarioError(file, number, f"{line!r} is no title, such as '= data/empty-message'")
            if draft is not None:
                yield draft
            draft = _Draft(match[1], file, number)
        elif draft is None:
            raise ScenarioError(file, number, "a title has to come first, such as '= data/empty-message'")
        else:
            _take(draft, number, line)
    if draft is None:
        raise ScenarioError(file, 1, "there is no scenario in it")
    yield draft


def _take(draft: _Draft, number: int, line: str) -> None:
    try:
        if (match := _STEP.fullmatch(line)) is not None:
            draft.steps.append(_step(match, number))
        elif line.startswith("! "):
            draft.steps.append(_act(line[2:], number))
        elif (match := _FIELD.fullmatch(line)) is not None:
            _field(draft, number, *match.groups())
        else:
            raise ValueError(f"{line!r} is neither a field nor a step")
    except ValueError as error:
        raise ScenarioError(draft.file, number, str(error))


def _field(draft: _Draft, number: int, name: str, value: str) -> None:
    if name not in _FIELDS:
        raise ValueError(f"{name} is none of the fields {', '.join(sorted(_FIELDS))}")
    if draft.steps:
        raise ValueError(f"{name} stands behind a step")
    if name in draft.fields:
        raise ValueError(f"{name} is given twice")
    if not value:
        raise ValueError(f"{name} has no value")
    draft.fields[name] = number, value


def _act(name: str, number: int) -> Act:
    if name not in ACTS:
        raise ValueError(f"{name!r} is none of {', '.join(sorted(ACTS))}")
    return Act(name, number)


def _step(match: re.Match[str], number: int) -> Step:
    who, times, mark, text = match[1], match[2] or "1", match[3], match[4] or ""
    placeholders.evaluate(times, dict.fromkeys(placeholders.NUMBERS, 1000))
    if who == "C":
        placeholders.check(text)
        return Send(text + ("\\r\\n" if mark == ":" else ""), times, number)
    if mark == "|":
        raise ValueError(f"{who}| is no step")
    if text == "silence" and who == "S":
        return Expect(None, "1", number, is_silence=True)
    words, then_closed = text, False
    if who == "E":
        words, comma, rest = text.partition(", ")
        if comma and rest != "closed":
            raise ValueError(f"{rest!r} is not 'closed'")
        then_closed = bool(comma)
    pattern = None if words == "closed" else Pattern.parse(words)
    for part in (pattern.recipient, pattern.words) if pattern else ():
        placeholders.check(part or "")
    return Expect(pattern, times, number, is_end=who in "EA", then_closed=then_closed, is_absence=who == "A")


def _needs(text: str) -> tuple[Need, ...]:
    needs = []
    for word in text.split(", "):
        match = _NEED.fullmatch(word)
        if match is None or (match[2].islower() and match[2] not in OPTIONS):
            raise ValueError(f"{word!r} is neither a capability nor an option")
        needs.append(Need(match[2], match[3], match[1] == "!"))
    return tuple(needs)


def _opening(draft: _Draft, named: dict[str, _Draft], passed: tuple[str, ...] = ()) -> tuple[str, tuple[Step, ...]]:
    line, after = draft.fields.get("After", (draft.line, "session"))
    if after in STARTS:
        return after, ()
    before = named.get(_BEGINNING + after)
    if before is None:
        raise ScenarioError(draft.file, line, f"there is no beginning {after!r}")
    if after in passed:
        raise ScenarioError(draft.file, line, f"{after!r} would begin with itself")
    start, steps = _opening(before, named, (*passed, after))
    return start, (*steps, *before.steps)


def _numbers_in(steps: Iterable[Step]) -> set[str]:
    used: set[str] = set()
    for step in steps:
        if not isinstance(step, Act):
            used |= placeholders.numbers_in(step.times)
        if isinstance(step, Send) and "{" in step.text:
            used |= placeholders.numbers_in(step.text)
    return used


def _scenario(draft: _Draft, named: dict[str, _Draft]) -> Scenario:
    for field in ("RFC", "Level"):
        if field not in draft.fields:
            raise ScenarioError(draft.file, draft.line, f"{draft.name} has no {field}")
    if not any(isinstance(step, Expect) for step in draft.steps):
        raise ScenarioError(draft.file, draft.line, f"{draft.name} expects nothing")
    level_line, level = draft.fields["Level"]
    if level not in _LEVELS:
        raise ScenarioError(draft.file, level_line, f"{level!r} is none of the levels {', '.join(_LEVELS)}")
    needs_line, needs = draft.fields.get("Needs", (draft.line, ""))
    split_line, split = draft.fields.get("Split", (draft.line, "yes"))
    if split not in ("yes", "no"):
        raise ScenarioError(draft.file, split_line, f"{split!r} is neither yes nor no")
    try:
        found = _needs(needs) if needs else ()
    except ValueError as error:
        raise ScenarioError(draft.file, needs_line, str(error))
    reference = draft.fields["RFC"][1]
    start, opening = _opening(draft, named)
    # What is made of a limit needs one.
    given = {need.name for need in found}
    found += tuple(Need(name) for name in sorted(_numbers_in((*opening, *draft.steps)) - given))
    return Scenario(
        name=draft.name,
        reference=f"RFC {reference}" if reference[:1].isdigit() else reference,
        level=_LEVELS[level],
        start=start,
        opening=opening,
        steps=tuple(draft.steps),
        needs=found,
        can_be_split=split == "yes",
    )
