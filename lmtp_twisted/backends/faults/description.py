"""``faults:KIND[,key=value…][,then=BACKEND]``"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import YES_OR_NO, choose
from lmtp_twisted.backends.faults.backend import Faults
from lmtp_twisted.backends.faults.kinds import Delay, Drop, Hang, Kind, Order, Refuse, Stagger
from lmtp_twisted.backends.faults.selection import Place, Unit
from lmtp_twisted.errors import is_enhanced
from lmtp_twisted.wire.replies import Reply

# No keys of options: the backend behind it has options of its own, and these would end the reading of ours.
_THEN = ",then="
_OPTION = re.compile(r",(?=[a-z_]+=)")
_RANGE = re.compile(r"([0-9.]+)-([0-9.]+)")
_SECONDS = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?")
_NUMBER = re.compile(r"[0-9]{1,9}")

Given = dict[str, str]


def _number(given: Given, key: str, default: int, least: int = 0) -> int:
    text = given.pop(key, str(default))
    if not _NUMBER.fullmatch(text) or int(text) < least:
        raise ValueError(f"{key} is a whole number from {least} on, not {text!r}")
    return int(text)


def _seconds(key: str, text: str) -> float:
    if not _SECONDS.fullmatch(text) or text.startswith("-"):
        raise ValueError(f"{key} is a number of seconds, not {text!r}")
    return float(text)


def _choice(given: Given, key: str, choices: Mapping[str, Any]) -> Any:
    """The first is the default."""
    return choose(key, given.pop(key, next(iter(choices))), choices)


def _is_on(given: Given, key: str) -> bool:
    return bool(_choice(given, key, {"no": False, **YES_OR_NO}))


def _refuse(code: str, text: str) -> Callable[[Given], Kind]:
    def read(given: Given) -> Kind:
        number = given.pop("code", code)
        if not re.fullmatch("[45][0-9][0-9]", number) or number == "421":
            raise ValueError(f"code is of class 4 or 5 and not 421, which drop is for: not {number!r}")
        enhanced = given.pop("enhanced", f"{number[0]}.3.0")
        if not is_enhanced(enhanced) or enhanced[0] != number[0]:
            raise ValueError(f"enhanced is an enhanced status code of class {number[0]}, not {enhanced!r}")
        return Refuse(Reply(int(number), enhanced, given.pop("text", text)), _is_on(given, "delivered"))

    return read


def _hang(given: Given) -> Kind:
    return Hang(_is_on(given, "delivered"))


def _drop(given: Given) -> Kind:
    replies = _number(given, "replies", 0) if "replies" in given else None
    return Drop(replies, _number(given, "octets", 0), _is_on(given, "reset"), _is_on(given, "delivered"))


def _delay(given: Given) -> Kind:
    text = given.pop("seconds", "1")
    between = _RANGE.fullmatch(text)
    seconds = _seconds("seconds", between[1] if between else text)
    up_to = _seconds("seconds", between[2]) if between else None
    most = given.pop("most", None)
    return Delay(
        seconds,
        _seconds("grow", given.pop("grow", "0")),
        None if most is None else _seconds("most", most),
        up_to,
        _number(given, "seed", 0),
    )


def _stagger(given: Given) -> Kind:
    order = _choice(given, "order", {order.value: order for order in Order})
    return Stagger(_seconds("seconds", given.pop("seconds", "1")), order, _number(given, "seed", 0))


_KINDS: Mapping[str, Callable[[Given], Kind]] = {
    "refuse": _refuse("550", "Refused on purpose"),
    "defer": _refuse("451", "Deferred on purpose"),
    "drop": _drop,
    "hang": _hang,
    "delay": _delay,
    "stagger": _stagger,
}


def from_description(context: BackendContext, argument: str) -> Faults:
    """
    ``faults:``

    :raises ValueError: with one line that says what is wrong.
    """
    fault, _, then = argument.partition(_THEN)
    name, *options = _OPTION.split(fault)
    if name not in _KINDS:
        similar = get_close_matches(name, _KINDS, 1)
        hint = f", did you mean {similar[0]}?" if similar else ""
        raise ValueError(f"{name!r} is no fault{hint} (they are {', '.join(_KINDS)})")
    given: Given = {}
    for option in options:
        key, _, value = option.partition("=")
        if key in given:
            raise ValueError(f"{key} is given twice")
        given[key] = value
    kind = _KINDS[name](given)
    selected: dict[str, Any] = {
        "at": _choice(given, "at", {place.value: place for place in (Place.DOT, Place.RCPT, Place.MAIL)}),
        "to": given.pop("to", None),
        "every": _number(given, "every", 1, least=1),
        "times": _number(given, "times", 0),
        "unit": _choice(given, "of", {unit.value: unit for unit in Unit}),
    }
    if given:
        raise ValueError(f"{name} has no option {next(iter(given))!r}")
    backend = context.build(then or "memory:")
    return Faults(backend, kind, reactor=context.reactor, **selected)
