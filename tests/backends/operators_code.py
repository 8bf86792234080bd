"""What an operator may name with ``python:``."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.mail.smtp import IMessageDelivery
from zope.interface import implementer

from lmtp_twisted import PermanentFailure, RecipientDelivery
from lmtp_twisted.backends.memory import MemoryBackend
from lmtp_twisted.testing import ScriptedDeliveries

calls: list[tuple[object, ...]] = []
begun = threading.Event()
go_on = threading.Event()


def plain(message: Any, recipient: Any) -> str:
    calls.append((message.read(), str(recipient)))
    return "kept"


async def coroutine(message: Any, recipient: Any) -> str:
    return await succeed("awaited")


def deferred(message: Any, recipient: Any) -> Deferred[str]:
    return succeed("deferred")


def refusing(message: Any, recipient: Any) -> None:
    raise PermanentFailure("full", enhanced="5.2.2")


def telling_its_thread(message: Any, recipient: Any) -> str:
    return str(threading.get_ident())


def waiting(message: Any, recipient: Any) -> None:
    begun.set()
    go_on.wait(60)
    calls.append(("waited",))


def too_many(message: Any, recipient: Any, more: Any) -> None:
    raise NotImplementedError


def too_few(message: Any) -> None:
    raise NotImplementedError


class Callable:
    def __call__(self, message: Any, recipient: Any) -> str:
        return "called"


class CallableCoroutine:
    async def __call__(self, message: Any, recipient: Any) -> str:
        return "awaited"


class WithoutSelf:
    def __init__(self) -> None:
        raise RuntimeError("no connection\nto the database")


class Own(MemoryBackend):
    """A factory of deliveries."""


class Each(RecipientDelivery):
    """A delivery: a new one for each message."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def deliverTo(self, message: Any, recipient: Any) -> str:
        return f"number {self.made}"


@implementer(IMessageDelivery)
class OfTwisted:
    """A delivery of twisted.mail."""

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        raise NotImplementedError

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        raise NotImplementedError

    def validateTo(self, user: Any) -> Any:
        raise NotImplementedError


callable_object = Callable()
callable_coroutine = CallableCoroutine()
factory = ScriptedDeliveries()
delivery_of_twisted = OfTwisted()
number = 42
builtin = max
nested = Callable
Callable.inner = staticmethod(plain)  # type: ignore[attr-defined]  # a way to it
