"""
The line of text that names a backend: ``TYPE:ARGUMENT[,key=value…]``.

Everything after the first colon is the argument, minus trailing ``,key=value`` parts whose keys the type declares. So
URLs, endpoints and paths need no escapes.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.plugin import getPlugins

from lmtp_twisted.interfaces import IDeliveryBackendPlugin

_log = Logger(namespace="lmtp_twisted")

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]*")
# In a URL: a password, or a user without one, who may be a token; and the query.
_LOGIN = re.compile(r"(://(?:[^/:@\s]*:)?)[^/\s]+@")
_QUERY = re.compile(r"(://[^?\s]*\?)[^,\s]+")
_ATTRIBUTES = ("backendType", "description", "argumentHelp", "options", "fromDescription")

Plugins = Mapping[str, Any]


@attrs.frozen
class BackendDescription:
    """
    A description, taken apart.

    :ivar plugin: the :class:`~lmtp_twisted.interfaces.IDeliveryBackendPlugin` of its type.
    :ivar argument: what stands after the first colon, without the options.
    :ivar options: the values of the options that were given.
    """

    plugin: Any
    argument: str
    options: Mapping[str, str]


def find_plugins(candidates: Iterable[Any] | None = None) -> dict[str, Any]:
    """
    The backends there are. A plugin that cannot be imported, or is not what it says, is logged and left out.

    :param candidates: instead of all that Twisted finds.
    :returns: each :class:`~lmtp_twisted.interfaces.IDeliveryBackendPlugin` by its type.
    :raises ValueError: where two have the same type.
    """
    found: dict[str, Any] = {}
    for plugin in getPlugins(IDeliveryBackendPlugin) if candidates is None else candidates:
        missing = [name for name in _ATTRIBUTES if not hasattr(plugin, name)]
        if missing or not (isinstance(plugin.backendType, str) and _TYPE.fullmatch(plugin.backendType)):
            _log.error(
                "{plugin!r} is no backend plugin ({why}) and is left out",
                plugin=plugin,
                why=f"it lacks {', '.join(missing)}" if missing else f"its type is {plugin.backendType!r}",
            )
        elif found.setdefault(plugin.backendType, plugin) is not plugin:
            raise ValueError(
                f"two backends are called {plugin.backendType!r}: "
                f"{_origin(found[plugin.backendType])} and {_origin(plugin)}"
            )
    return found


def _origin(plugin: Any) -> str:
    maker = getattr(plugin, "maker", None)
    return str(maker) if maker else f"{type(plugin).__module__}.{type(plugin).__qualname__}"


def parse_description(description: str, plugins: Plugins) -> BackendDescription:
    """
    Take a description apart.

    :param description: such as ``maildir:/srv/mail,create=no``.
    :param plugins: what :func:`find_plugins` gives.
    :raises ValueError: with one line that says what is wrong.
    """
    kind, colon, rest = description.partition(":")
    if kind not in plugins:
        raise ValueError(_unknown(description, kind, plugins))
    if not colon:
        raise ValueError(f"{description!r} lacks a colon: write {kind}:{_argument_of(plugins[kind])}")
    plugin = plugins[kind]
    argument = rest
    options: dict[str, str] = {}
    while True:
        before, comma, last = argument.rpartition(",")
        key, equals, value = last.partition("=")
        if not (comma and equals and key in plugin.options):
            return BackendDescription(plugin, argument, options)
        if key in options:
            raise ValueError(f"{without_passwords(description)!r} gives {key} twice")
        argument, options[key] = before, value


def without_passwords(description: str) -> str:
    """
    :param description: of a backend, perhaps with a URL.
    :returns: the same, fit for a log.
    """
    return _QUERY.sub(r"\1...", _LOGIN.sub(r"\1...@", description))


def _unknown(description: str, kind: str, plugins: Plugins) -> str:
    description = without_passwords(description)
    known = ", ".join(sorted(plugins)) or "none at all"
    # What follows may hold a password.
    shown = f"{kind}:" if ":" in description else description
    similar = get_close_matches(kind.lower(), plugins, 1)
    if "maildir" in plugins and kind.startswith(("/", ".", "~")):
        hint = f", did you mean maildir:{description}?"
    elif similar:
        hint = f", did you mean {similar[0]}:{_argument_of(plugins[similar[0]])}?"
    else:
        hint = ""
    return f"{shown!r} names no known backend{hint} (TYPE:ARGUMENT; the types are {known})"


def _argument_of(plugin: Any) -> str:
    return str(plugin.argumentHelp)


def refuse_argument(argument: str) -> None:
    """
    For backends that take no argument.

    :param argument: what was given as one.
    :raises ValueError: where it is not empty.
    """
    if argument:
        hint = f"; options follow a comma, as in TYPE:,{argument}" if "=" in argument else ""
        raise ValueError(f"it takes no argument, but was given {argument!r}{hint}")


def choose(option: str, value: str, choices: Mapping[str, Any]) -> Any:
    """
    For backends whose option is one of a few words.

    :param option: its key.
    :param value: what was given.
    :param choices: what each word means.
    :raises ValueError: where the value is not one of them.
    """
    if value not in choices:
        *others, last = choices
        raise ValueError(f"{option} is {', '.join(others)} or {last}, not {value!r}")
    return choices[value]


#: The choices of an option that is a switch.
YES_OR_NO: Mapping[str, bool] = {"yes": True, "no": False}


def help_text(plugins: Plugins) -> str:
    """
    What ``--help-backends`` prints.

    :param plugins: what :func:`find_plugins` gives.
    :returns: lines of at most 100 characters, the last with its line end.
    """
    parts = ["A backend is described as TYPE:ARGUMENT[,key=value...].\n"]
    for kind in sorted(plugins):
        plugin = plugins[kind]
        lines = [f"{kind}:{plugin.argumentHelp}", *_wrapped(plugin.description, "    ")]
        for key, text in plugin.options.items():
            lines += _wrapped(text, f"      ,{key}=  ")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _wrapped(text: str, lead: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=lead, subsequent_indent=" " * len(lead))
