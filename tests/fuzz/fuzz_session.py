"""A whole session in memory: any octets, however they are cut, have the same replies and deliver the same."""

from __future__ import annotations

import re
from typing import Any

from fuzz_content import cuts
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from lmtp_twisted import LMTPFactory, PermanentFailure, Settings
from lmtp_twisted.flow import AHEAD
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries, fake_spool

_NO = PermanentFailure("no")
_REPLY_ID = re.compile(r"\b[0-9a-z]{14}(?=\.\d+\.\d+\b)")
_LINE = re.compile(r"[2345][0-9]{2}[ -][ -~]{0,506}")


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


def _played(segments: list[bytes]) -> tuple[list[str], list[bytes], bool]:
    """The replies, the contents that were delivered, and whether the session was closed."""
    reactor, deliveries = FakeReactor(), ScriptedDeliveries({"b@x": _NO}, recipients={"no@x": _NO})
    factory = LMTPFactory(
        deliveries,
        settings=Settings(hostname="mx.example", size_limit=200, max_recipients=3, max_bad_commands=5, drain_factor=2),
        reactor=reactor,
        spool=fake_spool(reactor, threshold=50),
    )
    client = Conversation(factory)
    lines = list(client.greeting)
    for segment in segments:
        lines += client.send(segment)
        assert len(client.protocol._input) <= AHEAD + len(segment)
    for line in lines:
        assert _LINE.fullmatch(line), line
    closed = client.is_closed
    contents = [message.read() for message in deliveries.messages]
    client.lose()
    assert reactor.getDelayedCalls() == []
    assert factory.spool.used == 0
    return [_REPLY_ID.sub("ID", line) for line in lines], contents, closed
