"""Where the mail of a server goes: its backends, each made once however many name it, and the routes to them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import BackendDescription
from lmtp_twisted.daemon.configuration import NamedBackend
from lmtp_twisted.daemon.said import Fault, Faults, Place, Said, Told
from lmtp_twisted.interfaces import ILMTPDeliveryFactory
from lmtp_twisted.routing import Router

#: Where mail goes where nobody said where.
DEFAULT_BACKEND = "maildir:mail"


class Destinations:
    """
    :param context: for the backends.
    :param named: those that have a name. They are made at once.
    :param faults: gets what is wrong with these.
    """

    def __init__(self, context: BackendContext, named: Mapping[str, NamedBackend], faults: Faults) -> None:
        self._named = named
        self._faults = faults
        self._under_way: list[str] = []
        self._made: dict[str, ILMTPDeliveryFactory | None] = {}
        # By description and directory; and what goes by backend and routes.
        self._described: dict[tuple[str, str | None], ILMTPDeliveryFactory] = {}
        self._combined: dict[tuple[Any, ...], ILMTPDeliveryFactory] = {}
        context.named = {name: partial(self._of_name, name) for name in named}
        self._context = context
        for name in named:
            if name not in self._made:
                self._make_named(name)

    def of(self, said: Said) -> ILMTPDeliveryFactory:
        """
        :param said: has ``backend`` and ``route``.
        :raises ValueError: with one line that says what is wrong.
        """
        if said["backend"] is None:
            default = self._build(DEFAULT_BACKEND, None)
        else:
            with said.blamed("backend"):
                default = self._build(said["backend"], said.place("backend").directory)
        routes = []
        for index, (pattern, text) in enumerate(said["route"]):
            place = said.place("route", index).saying(pattern)
            try:
                backend = self._build(text, place.directory)
            except ValueError as error:
                raise error if isinstance(error, Told) else Fault(place, f": {error}")
            try:
                Router([(pattern, backend)], default)
            except ValueError as error:
                raise said.fault("route", f": {error}", index)
            routes.append((pattern, backend))
        if not routes:
            return default
        key = (id(default), *((pattern, id(backend)) for pattern, backend in routes))
        return self._combined.setdefault(key, Router(routes, default))

    def _build(self, text: str, directory: str | None) -> ILMTPDeliveryFactory:
        key = (text, directory)
        if key not in self._described:
            self._described[key] = self._context.below(directory).build(text)
        return self._described[key]

    def _of_name(self, name: str) -> ILMTPDeliveryFactory:
        """For the context."""
        if name in self._under_way:
            raise ValueError(f"{' → '.join((*self._under_way, name))} leads back to where it began")
        if name not in self._made:
            self._make_named(name)
        backend = self._made[name]
        if backend is None:
            raise Told(f"{name} cannot be made")
        return backend

    def _make_named(self, name: str) -> None:
        described = self._named[name]
        context = self._context.below(described.place.directory)
        self._made[name] = None
        self._under_way.append(name)
        with self._faults.caught():
            try:
                if described.description is not None:
                    self._made[name] = context.build(described.description)
                else:
                    self._made[name] = context.make(self._in_parts(described))
            except (Fault, Told):
                raise
            except ValueError as error:
                raise Fault(_place_of(described, str(error)), f": {error}")
        self._under_way.pop()

    def _in_parts(self, described: NamedBackend) -> BackendDescription:
        plugins = self._context.plugins
        plugin = plugins.get(described.kind)
        if plugin is None:
            hint = _similar(described.kind, plugins)
            raise Fault(
                described.places["type"],
                f": {described.kind!r} is no known type{hint} (the types are {', '.join(sorted(plugins))})",
            )
        for key in described.options:
            if key not in plugin.options:
                raise Fault(described.places[key], f" is no option of {described.kind}{_similar(key, plugin.options)}")
        return BackendDescription(plugin, described.argument, described.options)


def _place_of(described: NamedBackend, error: str) -> Place:
    """What a backend refuses is told with the option that its message begins with, where there is one."""
    _, _, text = error.partition(": ")
    return described.places.get(text.partition(" ")[0], described.place)


def _similar(word: str, words: Any) -> str:
    similar = get_close_matches(word, words, 1)
    return f", did you mean {similar[0]}?" if similar else ""
