"""Resources whose answer takes its time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR, NOT_FOUND, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

_log = Logger(namespace="lmtp_twisted")

#: The policy of what shows nothing but itself.
NOTHING = "default-src 'none'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#: Octets of all answers that clients have yet to read.
MOST_UNREAD = 128 * 1024 * 1024
# Octets that are written at a time.
_BLOCK = 64 * 1024


@attrs.frozen
class Answer:
    """
    :ivar body: its octets; or such as come when they are wanted, so that none are kept for who does not read.
    :ivar content_type: of these.
    :ivar policy: its Content-Security-Policy.
    :ivar status: the code.
    :ivar headers: more of them, in lower case.
    """

    body: bytes | AsyncIterator[bytes]
    content_type: str
    policy: str = NOTHING
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)

    async def send(self, request: Any) -> None:
        """Send it, as fast as the client reads; or say that too many read too slowly."""
        site, size = request.site, len(self.body) if isinstance(self.body, bytes) else 0
        if size and site.unread + size > MOST_UNREAD:
            await text_answer("Too much is being read", SERVICE_UNAVAILABLE)._send(request)
            return
        site.unread += size
        try:
            await self._send(request)
        finally:
            site.unread -= size

    async def _send(self, request: Any) -> None:
        request.setResponseCode(self.status)
        headers = {"content-type": self.content_type, "content-security-policy": self.policy, **self.headers}
        for name, value in headers.items():
            request.setHeader(name.encode("ascii"), value.encode("ascii"))
        if isinstance(self.body, bytes):
            request.setHeader(b"content-length", str(len(self.body)).encode("ascii"))
        if request.method != b"HEAD":
            reader = _Reader()
            request.registerProducer(reader, True)
            async for block in _blocks(self.body):
                request.write(block)
                await reader.reads()
            request.unregisterProducer()
        request.finish()


async def _blocks(body: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), _BLOCK):
            yield body[start : start + _BLOCK]
    else:
        async for block in body:
            yield block


@implementer(IPushProducer)
class _Reader:
    """Whether a client reads."""

    def __init__(self) -> None:
        self._is_paused = False
        self._waiting: Deferred[None] | None = None

    async def reads(self) -> None:
        """Wait until it does."""
        if self._is_paused:
            self._waiting = Deferred()
            await self._waiting

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The connection is lost, which the request says as well."""


def json_answer(value: object, status: int = 200) -> Answer:
    """An answer that programs read."""
    # ASCII, so that no reader has to guess.
    return Answer(f"{json.dumps(value, indent=1)}\n".encode("ascii"), "application/json", status=status)


def text_answer(text: str, status: int) -> Answer:
    """An answer of a few words."""
    return Answer(f"{text}\n".encode(), "text/plain; charset=utf-8", status=status)


def no_such_thing() -> Answer:
    """What was asked for is not there, or no more."""
    return text_answer("There is no such thing here", NOT_FOUND)


class LateResource(Resource):
    """A resource that answers by coroutines: ``get``, and others that a subclass calls for its methods."""

    def render_GET(self, request: Any) -> object:
        """What ``get`` gives."""
        return self.answer(request, self.get(request))

    async def get(self, request: Any) -> Answer:
        """The answer to GET."""
        raise NotImplementedError

    def answer(self, request: Any, coroutine: Coroutine[Any, Any, Answer]) -> object:
        """Answer when the coroutine has an answer, which is ended where the client leaves."""
        waiting = Deferred.fromCoroutine(_answer(request, coroutine))
        is_gone = False

        def gone(_: Failure) -> None:
            nonlocal is_gone
            is_gone = True
            waiting.cancel()

        def failed(failure: Failure) -> None:
            if not is_gone:
                # The client has to see that it is not all.
                _log.failure("an answer ended too early", failure)
                request.channel.forceAbortClient()

        request.notifyFinish().addErrback(gone)
        waiting.addErrback(failed)
        return NOT_DONE_YET


async def _answer(request: Any, coroutine: Coroutine[Any, Any, Answer]) -> None:
    try:
        answer = await coroutine
    except CancelledError:
        raise
    except Exception:
        _log.failure("a page could not be made")
        answer = text_answer("This could not be made; the log says why", INTERNAL_SERVER_ERROR)
    if request.channel is not None:
        await answer.send(request)
