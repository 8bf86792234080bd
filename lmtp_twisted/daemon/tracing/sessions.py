"""
Sessions that are traced. They are of a class of their own, so that tracing costs nothing where nobody asked for it, and
nothing but memory is shared with the others where somebody did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from lmtp_twisted.daemon.tracing.dialogue import Dialogue, Tracer
from lmtp_twisted.extensions.starttls import facts_of
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.protocol import LMTPProtocol


class TracingFactory(LMTPFactory):
    """
    :param tracer: traces the sessions that may be chosen.
    """

    def __init__(self, *arguments: Any, tracer: Tracer, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.tracer = tracer

    def buildProtocol(self, addr: IAddress | None) -> LMTPProtocol:  # type: ignore[override]  # as in LMTPFactory
        """A new session. Peers that may use XCLIENT may become one that is chosen."""
        choice = self.tracer.choice
        if addr is None or choice.is_for_any_peer or choice.covers(addr) or self.settings.trusted.covers(addr):
            return TracedProtocol(self)
        return super().buildProtocol(addr)


class TracedProtocol(LMTPProtocol):
    """
    :param factory: with a tracer.
    """

    factory: TracingFactory

    _dialogue: Dialogue | None = None
    _raw: bytes | None = None

    @property
    def _trace(self) -> Dialogue:
        # Made when the session says or hears something, which may be while its connection is being made.
        if self._dialogue is None:
            self._dialogue = Dialogue(self.factory.tracer, self.session)
        return self._dialogue

    def _flush(self) -> None:
        if self._output:
            self._trace.replies(b"".join(self._output))
        super()._flush()

    def lineReceived(self, line: bytes) -> None:
        """One command."""
        self._trace.command(line)
        super().lineReceived(line)

    def lineSkipped(self, start: bytes) -> None:
        """A line that was too long."""
        self._trace.note("a line was too long")
        super().lineSkipped(start)

    def divert_lines(self, taker: Callable[[bytes], None] | None) -> None:
        """What an exchange of AUTH consists of is not shown."""
        super().divert_lines(None if taker is None else lambda line: self._take_secret(line, taker))

    def _take_secret(self, line: bytes, taker: Callable[[bytes], None]) -> None:
        self._trace.secret(line)
        taker(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Octets of content, and perhaps of what follows it."""
        self._raw = data
        super().rawDataReceived(data)
        self._trace_content(b"")

    def back_to_lines(self, rest: bytes) -> None:
        """Content has ended."""
        self._trace_content(rest)
        self._trace.content_ended()
        super().back_to_lines(rest)

    def _trace_content(self, rest: bytes) -> None:
        """What came last is content, but for the rest."""
        raw, self._raw = self._raw, None
        if raw is not None:
            self._trace.content(raw[: len(raw) - len(rest)])

    def handshakeCompleted(self) -> None:
        """TLS is on."""
        facts = facts_of(self.transport)
        self._trace.note(f"TLS is on: {facts.version} {facts.cipher}")
        super().handshakeCompleted()

    def pauseProducing(self) -> None:
        """The client does not read."""
        self._trace.note("the client does not read its replies")
        super().pauseProducing()

    def readConnectionLost(self) -> None:
        """The client has half-closed."""
        self._trace.note("the client will say nothing more")
        super().readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        trace, is_broken_off = self._trace, self._transaction is not None and not self._trace.has_quit
        if not self.line_mode:
            trace.content_ended()
        if self._is_closed:
            trace.note("the connection is closed")
        elif reason.check(ConnectionDone):
            trace.note("the client has closed the connection")
        else:
            trace.note(f"the connection is lost: {reason.getErrorMessage()}")
        super().connectionLost(reason)
        trace.end(is_broken_off=is_broken_off)
