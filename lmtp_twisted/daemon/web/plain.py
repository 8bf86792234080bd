"""Resources without markup: what the others are made of, and what is said where there is nothing to show."""

from __future__ import annotations

from typing import Any

from twisted.web.http import NOT_FOUND
from twisted.web.resource import Resource

#: The type of what is said in plain text.
TEXT = b"text/plain; charset=utf-8"
# Those that Twisted has no words for.
_PHRASES = {421: b"Misdirected Request"}


class Plain(Resource):
    """
    One line.

    :param code: the status code.
    :param line: the body, without its line end.
    :param headers: what else is to be said.
    """

    isLeaf = True

    def __init__(self, code: int, line: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__()
        self._code = code
        self._body = f"{line}\n".encode()
        self._headers = headers

    def render(self, request: Any) -> bytes:
        """The answer, whatever the method."""
        request.setResponseCode(self._code, _PHRASES.get(self._code))
        request.setHeader(b"content-type", TEXT)
        request.setHeader(b"content-length", str(len(self._body)).encode())
        for name, value in self._headers:
            request.setHeader(name, value)
        return self._body


class Shown(Resource):
    """A resource that has only those below it which were put there: all else is not found."""

    def getChild(self, path: bytes, request: Any) -> Resource:
        """What was not put here."""
        return Plain(NOT_FOUND, "not found")
