"""What a backend is given when it is made, and how it comes to its end."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.description import BackendDescription, Plugins, find_plugins, parse_description
from lmtp_twisted.interfaces import ILMTPDeliveryFactory

_log = Logger(namespace="lmtp_twisted")


@attrs.define(eq=False)
class BackendContext:
    """
    The surroundings of the backends of one server.

    :ivar reactor: its ``callFromThread`` brings results back.
    :ivar pool: our thread pool; backends that wait for a disk do it there.
    :ivar hostname: our name.
    :ivar spool_directory: where large messages lie; ``None`` is the system's temporary directory.
    :ivar directory: where relative paths in descriptions begin; ``None`` is the current directory.
    :ivar is_trial: the backends are made to see whether they can be, and never used: nothing that stays may be made.
    :ivar named: gives the backends that have a name.
    :ivar plugins: the known backends by their type; by default all that Twisted finds.
    """

    reactor: Any
    pool: ThreadPool
    hostname: str
    spool_directory: str | None = None
    directory: str | None = None
    is_trial: bool = False
    named: Mapping[str, Callable[[], ILMTPDeliveryFactory]] = attrs.field(factory=dict, repr=False)
    plugins: Plugins = attrs.field(factory=find_plugins, repr=False)
    # By the id of a backend: it, which keeps the id from being another's, and its label.
    _labels: dict[int, tuple[ILMTPDeliveryFactory, str]] = attrs.field(factory=dict, init=False, repr=False)
    _shutdowns: list[Callable[[], Any]] = attrs.field(factory=list, init=False, repr=False)

    def build(self, description: str) -> ILMTPDeliveryFactory:
        """
        Make a backend. Backends that hold others call this with the descriptions of theirs.

        :param description: ``TYPE:ARGUMENT[,key=value…]``, or a name.
        :returns: an :class:`~lmtp_twisted.interfaces.ILMTPDeliveryFactory`.
        :raises ValueError: with one line that says what is wrong.
        """
        if description in self.named:
            return self.named[description]()
        if self.named and description and ":" not in description and description not in self.plugins:
            similar = get_close_matches(description, self.named, 1)
            hint = f"did you mean {similar[0]}?" if similar else f"the names are {', '.join(self.named)}"
            raise ValueError(f"no backend is called {description!r}, {hint}")
        return self.make(parse_description(description, self.plugins))

    def make(self, parsed: BackendDescription) -> ILMTPDeliveryFactory:
        """
        Make a backend of what a description says.

        :raises ValueError: with one line that says what is wrong.
        """
        kind = parsed.plugin.backendType
        try:
            backend: ILMTPDeliveryFactory = parsed.plugin.fromDescription(self, parsed.argument, **parsed.options)
        except Exception as error:
            raise ValueError(f"{kind}: {_one_line(error)}") from error
        if not callable(getattr(backend, "getDelivery", None)):
            raise ValueError(f"{kind}: its plugin made {backend!r}, which gives no deliveries")
        self._labels.setdefault(id(backend), (backend, kind))
        return backend

    def label(self, backend: ILMTPDeliveryFactory, name: str) -> None:
        """Have a backend go by its name instead of its type."""
        self._labels[id(backend)] = backend, name

    def label_of(self, backend: Any) -> str:
        """
        What a backend is called in metrics and logs. Never its description: there may be a password in it.

        :param backend: what made a delivery; ``None`` for none.
        :returns: its name in the configuration, or else its type, such as ``maildir``; the name of its class where it
            was not made here; ``""`` for ``None``.
        """
        if backend is None:
            return ""
        known = self._labels.get(id(backend))
        return type(backend).__name__ if known is None else known[1]

    @property
    def labelled(self) -> list[tuple[str, ILMTPDeliveryFactory]]:
        """All backends that were made, each with its label."""
        return [(label, backend) for backend, label in self._labels.values()]

    def below(self, directory: str | None) -> BackendContext:
        """The same server, with relative paths that begin elsewhere."""
        other = copy.copy(self)
        other.directory = directory
        return other

    def path(self, path: str) -> str:
        """A path as a description has it, absolute where :attr:`directory` is; one that is empty stays so."""
        return os.path.join(self.directory, os.path.expanduser(path)) if self.directory is not None and path else path

    def add_shutdown(self, function: Callable[[], Any]) -> None:
        """
        Have something called when the server ends, after the last session and before the pool stops.

        :param function: called without arguments; may return an awaitable.
        """
        self._shutdowns.append(function)

    async def _shut_down(self) -> None:
        while self._shutdowns:
            function = self._shutdowns.pop()
            try:
                await maybeDeferred(function)
            except Exception:
                _log.failure("a backend did not shut down cleanly")

    def shut_down(self) -> Deferred[None]:
        """
        Call what was added, the latest first, each when the one before is done. A failure is logged and the rest goes
        on.

        :returns: fires when all are done.
        """
        return Deferred.fromCoroutine(self._shut_down())


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    # The text of these is written for people; that of others says little without their name.
    return text if isinstance(error, (ValueError, OSError)) and text else f"{type(error).__name__}: {text}"
