"""Resources whose answer takes its time."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Mapping
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR, NOT_FOUND
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

_log = Logger(namespace="lmtp_twisted")

#: The policy of what shows nothing but itself.
NOTHING = "default-src 'none'; sandbox; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@attrs.frozen
class Answer:
    """
    :ivar body: its octets.
    :ivar content_type: of these.
    :ivar policy: its Content-Security-Policy.
    :ivar status: the code.
    :ivar headers: more of them, in lower case.
    """

    body: bytes
    content_type: str
    policy: str = NOTHING
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def write(self, request: Any) -> None:
        """Send it."""
        request.setResponseCode(self.status)
        headers = {"content-type": self.content_type, "content-security-policy": self.policy, **self.headers}
        for name, value in headers.items():
            request.setHeader(name.encode("ascii"), value.encode("ascii"))
        request.setHeader(b"content-length", str(len(self.body)).encode("ascii"))
        if request.method != b"HEAD":
            request.write(self.body)
        request.finish()


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
        waiting = Deferred.fromCoroutine(coroutine)
        is_gone = False

        def gone(_: Failure) -> None:
            nonlocal is_gone
            is_gone = True
            waiting.cancel()

        def answered(answer: Answer | Failure) -> None:
            if isinstance(answer, Failure):
                if is_gone or answer.check(CancelledError):
                    return
                _log.failure("a page could not be made", answer)
                answer = text_answer("This could not be made; the log says why", INTERNAL_SERVER_ERROR)
            if not is_gone:
                answer.write(request)

        request.notifyFinish().addErrback(gone)
        waiting.addBoth(answered)
        return NOT_DONE_YET
