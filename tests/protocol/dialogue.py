"""
What the tests of this directory share: a client in memory that looks at every line it is given, and words to say a
dialogue in few lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.logger import ILogObserver, LogLevel
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor, ScriptedDeliveries, fake_spool

HOSTNAME = "mx.example.org"

#: A line of a reply that has an enhanced status code of its own class (RFC 2034 §4).
_ENHANCED = re.compile(r"([245])\d\d[ -]\1\.\d{1,3}\.\d{1,3}( |\Z)")
_HELLO = re.compile(rb"LHLO|EHLO|HELO|XCLI", re.IGNORECASE)
_REPLY_ID = re.compile(r"\b[0-9a-z]{14}(?=\.\d+\.\d+\b)")

#: The sessions of the test that runs, for the fixture that looks after it.
opened: list[Client] = []


@implementer(ILogObserver)
class LoggedErrors:
    """The errors that were logged and that the test has not looked at yet."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []

    def __call__(self, event: Any) -> None:
        level = event.get("log_level")
        if level is not None and level >= LogLevel.error:
            self._events.append(event)

    def take(self) -> list[dict[str, Any]]:
        """The errors since the last call."""
        events, self._events = self._events, []
        return events


def server(
    backend: Any = None, *, reactor: FakeReactor | None = None, pool: FakePool | None = None, **options: Any
) -> LMTPFactory:
    """
    A factory on a clock, with a spool without threads.

    :param backend: scripted deliveries that accept all by default.
    :param options: arguments of the factory by their names; all others are settings.
    """
    reactor = reactor or FakeReactor()
    names = {"policy", "deliver", "deliverMessage", "connection_policy", "tls", "portal"}
    names |= {"observers", "spool", "shared_count", "command_counts"}
    of_factory = {name: options.pop(name) for name in names if name in options}
    if backend is None and not {"deliver", "deliverMessage"} & of_factory.keys():
        backend = ScriptedDeliveries()
    of_factory.setdefault("spool", fake_spool(reactor, pool))
    settings = Settings(**{"hostname": HOSTNAME, **options})
    return LMTPFactory(backend, settings=settings, reactor=reactor, **of_factory)


class Client(Conversation):
    """
    A conversation in which every line of a reply is held against the rules for all replies: ASCII, at most 512 octets,
    an enhanced status code of the class of its code on all but the greeting and the replies to LHLO, EHLO, HELO and
    XCLIENT (RFC 2034 §4, RFC 5321 §4.5.3.1.5).

    :ivar factory: the server.
    :ivar reactor: its clock.
    """

    def __init__(self, factory: LMTPFactory, peer: IAddress | None = None) -> None:
        self.factory = factory
        self.reactor: FakeReactor = factory.reactor
        # How many replies without an enhanced status code may come at the most.
        self._bare = 1
        self._tail = b""
        self.is_lost = False
        opened.append(self)
        super().__init__(factory, peer)

    def send(self, data: bytes) -> list[str]:
        """Send octets, in one segment."""
        data_so_far = self._tail + data
        self._bare += len(_HELLO.findall(data_so_far))
        self._tail = data_so_far[-3:]
        return super().send(data)

    def read(self) -> list[str]:
        """The lines that came since they were last read."""
        lines = super().read()
        for line in lines:
            assert len(line) <= 510, line
            assert line.isprintable(), line
            assert line[:3].isdigit(), line
            assert line[3] in " -", line
            if line[0] in "245" and line[3] == " " and not _ENHANCED.match(line):
                assert self._bare, f"no enhanced status code: {line!r}"
                self._bare -= 1
        return lines

    def lose(self) -> None:
        """The connection is lost."""
        assert not self.is_lost
        self.is_lost = True
        super().lose()

    def after(self, seconds: float) -> list[str]:
        """The lines that come while time passes."""
        self.reactor.advance(seconds)
        return self.read()

    def content(self, text: str | bytes = "Subject: x\r\n\r\nHello\r\n") -> list[str]:
        """Send a content, dot-stuffed, and its end mark. The lines that came, without the 354 of DATA."""
        assert codes(self.say("DATA")) == ["354"]
        data = text.encode() if isinstance(text, str) else text
        assert data.endswith(b"\r\n") or not data
        return self.send(stuffed(data) + b".\r\n")


def connected(backend: Any = None, *, peer: IAddress | None = None, **options: Any) -> Client:
    """A client that has been greeted."""
    return Client(server(backend, **options), peer)


def greeted(backend: Any = None, **options: Any) -> Client:
    """A client that has said LHLO."""
    client = connected(backend, **options)
    assert client.say("LHLO client.example")[-1].startswith("250 ")
    return client


def with_sender(backend: Any = None, **options: Any) -> Client:
    """A client in a transaction without recipients."""
    client = greeted(backend, **options)
    assert codes(client.say("MAIL FROM:<sender@example.net>")) == ["250 2.1.0"]
    return client


def with_recipients(backend: Any = None, *recipients: str, **options: Any) -> Client:
    """A client in a transaction with recipients, ``one@example.org`` where none is named."""
    client = with_sender(backend, **options)
    for recipient in recipients or ("one@example.org",):
        assert codes(client.say(f"RCPT TO:<{recipient}>")) == ["250 2.1.5"]
    return client


def codes(lines: Iterable[str]) -> list[str]:
    """Each reply's code and, where it has one, its enhanced status code."""
    return [match[0].strip() if (match := _ENHANCED.match(line)) else line[:3] for line in lines]


def masked(lines: Iterable[str]) -> list[str]:
    """The lines with each session id made ``ID``: all else of a session is the same each time."""
    return [_REPLY_ID.sub("ID", line) for line in lines]


def stuffed(content: bytes) -> bytes:
    """A content as DATA sends it: a dot put before each line that begins with one (RFC 5321 §4.5.2)."""
    return re.sub(rb"(\A|\r\n)\.", rb"\1..", content)


def delivered(client: Client) -> list[bytes]:
    """The contents that scripted deliveries were given."""
    return [message.read() for message in client.factory.backend.messages]
