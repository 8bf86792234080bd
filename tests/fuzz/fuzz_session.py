"""A whole session in memory: any octets, however they are cut, have the same replies and deliver the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from fuzz_content import cuts
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import UNIXAddress
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, PermanentFailure, Settings
from lmtp_twisted.daemon.tracing.choice import Choice
from lmtp_twisted.daemon.tracing.dialogue import Tracer
from lmtp_twisted.daemon.tracing.files import TraceFiles
from lmtp_twisted.daemon.tracing.sessions import TracingFactory
from lmtp_twisted.flow import AHEAD, Hold
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries, fake_spool

_NO = PermanentFailure("no")
_REPLY_ID = re.compile(r"\b[0-9a-z]{14}(?=\.\d+\.\d+\b)")
# Of CRAM-MD5: it begins with "<" and a digit.
_CHALLENGE = re.compile(r"334 PD[A-Za-z0-9+/=]{60,}")
_PASSWORD = b"secret"
_LINE = re.compile(r"[2345][0-9]{2}[ -][ -~]{0,506}")


@implementer(IRealm)
class _Realm:
    """Whose users all have deliveries that take everything."""

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """See the interface."""
        return interfaces[0], ScriptedDeliveries(), lambda: None


class _Errors(list[Any]):
    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        if level is not None and level >= LogLevel.error:
            self.append(event.get("log_failure") or event)


def session(data: bytes) -> None:
    """Any octets behind the greeting."""
    errors = _Errors()
    globalLogPublisher.addObserver(errors)
    try:
        whole, *others = [_played(segments) for segments in cuts(data)]
    finally:
        globalLogPublisher.removeObserver(errors)
    assert not errors, errors
    for other in others:
        assert other == whole
    lines: list[str] = []
    assert _played([data], _Traces(lines)) == whole
    # What was traced is as many lines as it has, and shows no control character.
    assert all(line.isprintable() for line in "".join(lines).removesuffix("\n").split("\n"))


class _Traces(TraceFiles):
    """Keeps what would be written."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def write(self, session: str, text: str) -> None:
        """See the class."""
        self._texts.append(text)


def _played(segments: list[bytes], traces: TraceFiles | None = None) -> tuple[list[str], list[bytes], bool]:
    """The replies, the contents that were delivered, and whether the session was closed."""
    reactor, deliveries = FakeReactor(), ScriptedDeliveries({"b@x": _NO}, recipients={"no@x": _NO})
    make_factory: Callable[..., LMTPFactory] = LMTPFactory
    if traces is not None:
        make_factory = partial(TracingFactory, tracer=Tracer(Choice(all=True), traces, reactor, 100))
    factory = make_factory(
        deliveries,
        portal=Portal(_Realm(), [InMemoryUsernamePasswordDatabaseDontUse(alice=_PASSWORD)]),
        settings=Settings(
            hostname="mx.example",
            size_limit=200,
            max_recipients=3,
            max_bad_commands=5,
            max_auth_failures=2,
            drain_factor=2,
            trusted=["unix", "192.0.2.0/24"],
        ),
        reactor=reactor,
        spool=fake_spool(reactor, threshold=50),
    )
    client = Conversation(factory, UNIXAddress(b"/run/lmtp"))
    lines = list(client.greeting)
    for segment in segments:
        lines += client.send(segment)
        assert len(client.protocol._input) <= AHEAD + len(segment)
        # Whoever fails to log in is answered late, and what was said meanwhile after that.
        while Hold.PENALTY in client.protocol._holds and not client.is_closed:
            reactor.advance(1)
            lines += client.read()
    for line in lines:
        assert _LINE.fullmatch(line), line
    closed = client.is_closed
    contents = [message.read() for message in deliveries.messages]
    client.lose()
    assert reactor.getDelayedCalls() == []
    assert factory.spool.used == 0
    return [_CHALLENGE.sub("334 CHALLENGE", _REPLY_ID.sub("ID", line)) for line in lines], contents, closed
