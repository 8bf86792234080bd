"""
Where the mail of a server goes: its backends, each made once however many name it, the routes to them, and who the
recipients are.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import BackendDescription
from lmtp_twisted.daemon.addressing import OF_RESOLVER, resolver_of
from lmtp_twisted.daemon.configuration import NamedBackend
from lmtp_twisted.daemon.said import Fault, Faults, Place, Said, Told, blame
from lmtp_twisted.interfaces import ILMTPDeliveryFactory
from lmtp_twisted.patterns import compile_pattern
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.routing import Router

#: Where mail goes where nobody said where.
DEFAULT_BACKEND = "maildir:mail"


class Destinations:
    """
    :param context: for the backends.
    :param named: those that have a name. They are made at once.
    :param faults: gets what is wrong with these, and what is not the last that is wrong with options.
    """

    def __init__(self, context: BackendContext, named: Mapping[str, NamedBackend], faults: Faults) -> None:
        self._named = named
        self._faults = faults
        self._under_way: list[str] = []
        self._made: dict[str, ILMTPDeliveryFactory | None] = {}
        # By description and directory; and what is made of these.
        self._described: dict[tuple[str, str | None], ILMTPDeliveryFactory] = {}
        self._combined: dict[tuple[Any, ...], ILMTPDeliveryFactory] = {}
        self._resolvers: dict[tuple[str, ...], Resolver | None] = {}
        context.named = {name: partial(self._of_name, name) for name in named}
        self._context = context
        for name in named:
            if name not in self._made:
                self._make_named(name)

    def of(self, said: Said) -> ILMTPDeliveryFactory:
        """
        :param said: the options.
        :returns: the backend alone where nothing more was asked for; else it is behind routes, and these behind the
            aliases and the directory.
        :raises ValueError: with one line that says what is wrong.
        """
        resolver = None
        with self._faults.caught():
            resolver = self._resolver(said)
        routes = self._routes(said)
        if said["backend"] is None:
            backend = self._build(DEFAULT_BACKEND, None)
        else:
            backend = self._at(said.place("backend"), said["backend"])
        named = {name: self._of_name(name) for name in self._named} if said["directory"] is not None else {}
        for name, text in said["directory-backend"].items():
            place = said.place("directory-backend", name).saying(name)
            named[name] = self._at(place, text)
        if routes or said["directory"] is not None:
            key = (
                id(backend),
                *((pattern, id(to)) for pattern, to in routes),
                *((name, id(to)) for name, to in named.items()),
            )
            backend = self._combined.setdefault(key, Router(routes, backend, named))
        if resolver is None:
            return backend
        return self._combined.setdefault((id(resolver), id(backend)), Resolving(resolver, backend))

    def _routes(self, said: Said) -> list[tuple[str, ILMTPDeliveryFactory]]:
        routes = []
        for index, (pattern, text) in enumerate(said["route"]):
            # One that is wrong is told, and the others are looked at all the same.
            with self._faults.caught():
                with said.blamed("route", index):
                    compile_pattern(pattern)
                routes.append((pattern, self._at(said.place("route", index).saying(pattern), text)))
        return routes

    def _resolver(self, said: Said) -> Resolver | None:
        key = tuple(repr(said[option]) for option in OF_RESOLVER)
        if key not in self._resolvers:
            self._resolvers[key] = resolver_of(said, self._context)
        return self._resolvers[key]

    def _at(self, place: Place, text: str) -> ILMTPDeliveryFactory:
        try:
            return self._build(text, place.directory)
        except ValueError as error:
            raise blame(place, error)

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
                text = described.description
                backend = context.make(self._in_parts(described)) if text is None else context.build(text)
                self._made[name] = backend
                # Another name of the same backend changes nothing.
                if text not in self._named:
                    context.label(backend, name)
            except ValueError as error:
                raise blame(_place_of(described, str(error)), error)
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
