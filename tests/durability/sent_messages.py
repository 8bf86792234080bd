"""Messages that are known again wherever they lie, and the sessions that send them."""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Sequence
from typing import IO

import attrs

#: Seconds after which something that should have happened is taken not to happen.
PATIENCE = 60.0
SENDER = "sender@example.net"
#: What the server puts before each content (RFC 5321 §4.4), with the line ends of the files.
_TRACE = re.compile(rb"Return-Path: <%b>\nReceived: from [^\n]+\n(?:\t[^\n]+\n)+" % re.escape(SENDER.encode()))
_TOKEN = re.compile(rb"^Message-ID: <(\w+)@example\.net>\n", re.MULTILINE)
#: A positive final reply: the recipient, and the id that no other reply has.
POSITIVE = re.compile(rb"^250 2\.0\.0 <([^>]*)> (\S+) [^\r\n]*\r\n", re.MULTILINE)

#: Octets of a line, and some 2 MB of lines of which each is another.
_LINE = 72
_TEXT = b"".join(b"%-69dx\r\n" % number if number % 9 else b".%-68dx\r\n" % number for number in range(28_000))


@attrs.frozen
class Message:
    """
    :ivar token: no other message has it.
    :ivar recipients: their addresses, in RCPT order.
    :ivar content: as it is sent, without stuffed dots and the end mark.
    """

    token: str
    recipients: tuple[str, ...]
    content: bytes

    @classmethod
    def make(cls, token: str, recipients: Sequence[str], size: int) -> Message:
        """
        :param size: octets of the content, about. Which lines it has depends on the token; some begin with a dot.
        """
        head = f"Message-ID: <{token}@example.net>\r\nSubject: durable\r\n\r\n".encode()
        start = _LINE * (zlib.crc32(token.encode()) % 1000)
        return cls(token, tuple(recipients), head + _TEXT[start : start + _LINE * (1 + size // _LINE)])

    @property
    def burst(self) -> bytes:
        """All commands up to DATA, to be sent at once (RFC 2920)."""
        recipients = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in self.recipients)
        return f"MAIL FROM:<{SENDER}>\r\n{recipients}DATA\r\n".encode()

    @property
    def wire(self) -> bytes:
        """The content as it is sent, end mark included."""
        return self.content.replace(b"\r\n.", b"\r\n..") + b".\r\n"

    @property
    def mailboxes(self) -> frozenset[str]:
        """Where it goes, as paths from the root of the mail: each once, whatever the spelling."""
        return frozenset(map(mailbox_of, self.recipients))

    def is_whole(self, octets: bytes) -> bool:
        """Whether a file is this message, octet for octet, behind the trace headers."""
        trace = _TRACE.match(octets)
        return trace is not None and octets[trace.end() :] == self.content.replace(b"\r\n", b"\n")


def mailbox_of(address: str) -> str:
    """Where mail for an address goes, with ``detail=folder``: the path of its mailbox or folder (Maildir++)."""
    local, _, domain = address.lower().partition("@")
    user, _, detail = local.partition("+")
    return f"{domain}/{user}" + (f"/.{detail}" if detail else "")


def token_of(octets: bytes) -> str | None:
    """Which message a file claims to be."""
    match = _TOKEN.search(octets)
    return match[1].decode() if match else None


class NotListening(AssertionError):
    """A server has ended before it listened."""


def port_of(output: IO[str]) -> int:
    """
    The port of 127.0.0.1 where a server says that it listens.

    :raises NotListening: where it never says so.
    """
    said = []
    for line in output:
        said.append(line)
        if match := re.search(r"listening on 127\.0\.0\.1:(\d+)$", line):
            return int(match[1])
    raise NotListening(f"it does not listen:\n{''.join(said)}")


class Session:
    """
    A session of LMTP over a socket that blocks, one message after the other.

    :ivar promised: the ids of the positive final replies, each with its message and the mailbox.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._lines = self._socket.makefile("rb")
        self.promised: dict[str, tuple[Message, str]] = {}

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    def _reply(self) -> bytes:
        while (line := self._lines.readline())[3:4] == b"-":
            pass
        if not line.endswith(b"\r\n"):
            # A line that was cut off says nothing.
            raise ConnectionResetError("the server is gone")
        return line

    def greet(self) -> None:
        """Read the greeting and send LHLO."""
        self._reply()
        self._socket.sendall(b"LHLO load.example.net\r\n")
        self._reply()

    def begin(self, message: Message) -> None:
        """Everything up to the content."""
        self._socket.sendall(message.burst)
        for _ in range(1 + len(message.recipients)):
            reply = self._reply()
            if not reply.startswith(b"250 "):
                raise AssertionError(f"not accepted: {reply!r}")
        reply = self._reply()
        if not reply.startswith(b"354 "):
            raise AssertionError(f"not 354: {reply!r}")

    def send_content(self, message: Message) -> None:
        """The content, and its end."""
        self._socket.sendall(message.wire)

    def finish(self, message: Message) -> None:
        """Read the final replies, one for each recipient (RFC 2033 §4.2)."""
        for recipient in message.recipients:
            reply = self._reply()
            positive = POSITIVE.match(reply)
            if positive is None:
                raise AssertionError(f"not stored: {reply!r}")
            if positive[1].decode() != recipient:
                raise AssertionError(f"not the reply for {recipient}: {reply!r}")
            self.promised[positive[2].decode()] = message, mailbox_of(recipient)

    def deliver(self, message: Message) -> None:
        """The whole of it."""
        self.begin(message)
        self.send_content(message)
        self.finish(message)
