"""
A small LMTP server in a thread, right in all that MUST be; what is wrong with it is said by subclasses.

It is no model of ours: it shares nothing with the package, and nothing with the kit that judges it.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress

#: Seconds that a connection may last, so that no thread stays.
LONGEST = 20.0


class Gone(Exception):
    """The client has closed the connection."""


class Session:
    """One connection to a :class:`SmallServer`, in a thread of its own."""

    capabilities = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SIZE 20000", "LIMITS RCPTMAX=100", "CHUNKING")
    #: What ends the content.
    end = b"\r\n.\r\n"

    def __init__(self, server: SmallServer, connected: socket.socket) -> None:
        self.server = server
        self.socket = connected
        self.buffer = b""
        self.has_lhlo = False
        self.has_sender = False
        self.recipients: list[str] = []
        self.chunks: int | None = None

    # Octets

    def receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise Gone
        self.buffer += data

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > 100_000:
                raise Gone
            self.receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def octets(self, number: int) -> bytes:
        while len(self.buffer) < number:
            self.receive()
        octets, self.buffer = self.buffer[:number], self.buffer[number:]
        return octets

    def say(self, text: str) -> None:
        self.socket.sendall(text.encode("utf-8") + b"\r\n")

    # The session

    def serve(self) -> None:
        self.greet()
        while True:
            verb, _, argument = self.line().rstrip(b" \t").partition(b" ")
            handler = getattr(self, f"do_{verb.upper().decode('latin-1')}", None)
            if handler is None:
                self.say("500 5.5.2 What?")
            elif handler(argument.strip()) == "over":
                return

    def greet(self) -> None:
        self.say("220 small.example LMTP")

    def forget(self) -> None:
        self.has_sender, self.recipients, self.chunks = False, [], None

    def do_LHLO(self, argument: bytes) -> None:
        if not argument:
            self.say("501 A name")
            return
        self.has_lhlo = True
        self.forget()
        for capability in self.capabilities:
            self.say(f"250-{capability}" if capability != self.capabilities[0] else "250-small.example")
        self.say(f"250 {self.capabilities[0]}")

    def do_NOOP(self, argument: bytes) -> None:
        self.say("250 2.0.0 OK")

    def do_VRFY(self, argument: bytes) -> None:
        self.say("252 2.1.5 Try it" if argument else "501 5.5.4 Whom?")

    def do_EXPN(self, argument: bytes) -> None:
        self.say("502 5.5.1 No")

    do_HELP = do_EXPN

    def do_RSET(self, argument: bytes) -> None:
        if argument:
            self.say("501 5.5.4 No argument")
            return
        self.forget()
        self.say("250 2.0.0 OK")

    def do_QUIT(self, argument: bytes) -> str:
        if argument:
            self.say("501 5.5.4 No argument")
            return ""
        self.say("221 2.0.0 Bye")
        return "over"

    def do_MAIL(self, argument: bytes) -> None:
        match = re.fullmatch(rb"(?i:FROM:)<((?:\"(?:[^\"\\]|\\.)*\"|[^\">@]|@[^@:>]*:)*(?:@[^@>]+)?)>(.*)", argument)
        if not self.has_lhlo or self.has_sender or self.chunks is not None:
            self.say("503 5.5.1 Not now")
        elif match is None:
            self.say("501 5.5.4 Syntax")
        else:
            known = rb"(?i: SIZE=([0-9]{1,20})| BODY=(7BIT|8BITMIME))*"
            parameters = re.fullmatch(known, match[2])
            if parameters is None:
                self.say("501 5.5.4 Value" if re.search(rb"(?i:SIZE|BODY)", match[2]) else "555 5.5.4 Parameter")
            elif int(parameters[1] or 0) > 20000:
                self.say("552 5.3.4 Too much")
            else:
                self.has_sender = True
                self.say("250 2.1.0 OK")

    def do_RCPT(self, argument: bytes) -> None:
        match = re.fullmatch(rb"(?i:TO:)<(?:@[^:>]*:)?([^>]+)>(.*)", argument)
        if not self.has_sender or self.chunks is not None:
            self.say("503 5.5.1 Not now")
        elif match is None:
            self.say("501 5.5.4 Syntax")
        elif match[2]:
            self.say("555 5.5.4 Parameter")
        elif len(self.recipients) == 100:
            self.say("452 4.5.3 Too many")
        else:
            self.recipients.append(match[1].decode("latin-1"))
            self.say("250 2.1.5 OK")

    def do_DATA(self, argument: bytes) -> None:
        if argument:
            self.say("501 5.5.4 No argument")
        elif not self.recipients or self.chunks is not None:
            self.say("503 5.5.1 Not now")
        else:
            self.say("354 Go on")
            self.finish(len(self.content().replace(b"\r\n..", b"\r\n.")))

    def content(self) -> bytes:
        """What comes up to the end mark, which may be the first line."""
        self.buffer = b"\r\n" + self.buffer
        while self.end not in self.buffer:
            self.receive()
        content, _, self.buffer = self.buffer.partition(self.end)
        return content

    def do_BDAT(self, argument: bytes) -> str:
        match = re.fullmatch(rb"([0-9]{1,20})( +LAST)?", argument, re.IGNORECASE)
        if match is None:
            self.say("501 5.5.4 Syntax")
            return "over"
        size = int(match[1])
        if size > 1_000_000:
            self.say("552 5.3.4 Too much")
            return "over"
        if self.has_sender and not self.recipients and match[2]:
            self.octets(size)
            self.forget()
            return ""
        if not self.recipients:
            self.refuse_chunk(size)
            return ""
        self.octets(size)
        self.chunks = (self.chunks or 0) + size
        if match[2]:
            self.finish(self.chunks)
        else:
            self.say("552 5.3.4 Too much" if self.chunks > 20000 else "250 2.0.0 OK")
        return ""

    def refuse_chunk(self, size: int) -> None:
        self.octets(size)
        self.say("503 5.5.1 Not now")

    def finish(self, size: int) -> None:
        recipients = self.recipients
        self.forget()
        for recipient in recipients:
            self.final(recipient, size)

    def final(self, recipient: str, size: int) -> None:
        words = "552 5.3.4" if size > 20000 else "250 2.0.0"
        self.say(f"{words} <{recipient}>"[:500])


class SmallServer:
    """
    A server on a free port of 127.0.0.1, until the block ends.

    :param session: what serves a connection.
    :param context: for those that speak TLS.
    """

    def __init__(self, session: type[Session] = Session, context: ssl.SSLContext | None = None) -> None:
        self._session = session
        self.context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: Set when the server ends: what waits, waits for this.
        self.is_over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> SmallServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        # Wakes accept(), which closing does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(LONGEST)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connected, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=[connected], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connected: socket.socket) -> None:
        connected.settimeout(LONGEST)
        session = self._session(self, connected)
        with suppress(OSError, Gone):
            session.serve()
        session.socket.close()
