"""The other sessions: well-behaved clients that deliver a message now and then, and time it."""

import socket
import threading
import time

from attrs import define, field

#: Seconds between two messages.
PAUSE = 0.2
#: Seconds that a message may take at all.
PATIENCE = 20.0
_CONTENT = b"From: probe@example.net\r\nSubject: as usual\r\n\r\n" + b"Nothing special.\r\n" * 40 + b".\r\n"


class _Session:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        try:
            self.expect(b"220")
            self.say(b"LHLO probe.example.net\r\n", b"250")
        except OSError:
            self.close()
            raise

    def say(self, data: bytes, *replies: bytes) -> None:
        self._socket.sendall(data)
        for reply in replies:
            self.expect(reply)

    def expect(self, code: bytes) -> None:
        line = self._file.readline()
        while line[3:4] == b"-":
            line = self._file.readline()
        if not line.startswith(code):
            raise OSError(f"expected {code.decode()}, got {line.decode(errors='replace').strip() or 'an end'}")

    def deliver(self, number: int) -> None:
        self.say(
            b"MAIL FROM:<probe@example.net>\r\nRCPT TO:<u%d@example.org>\r\nDATA\r\n" % (number % 10),
            b"250",
            b"250",
            b"354",
        )
        self.say(_CONTENT, b"250")

    def quit(self) -> None:
        self.say(b"QUIT\r\n", b"221")
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@define
class Probe:
    """
    Delivers until it is stopped, in a thread: with one session that was there before, or with a new one each time.

    :param port: of the server.
    :param is_new: a new session for each message; the time is then that from its first packet to its last reply.
    :ivar answers: seconds that each message took.
    :ivar failures: what went wrong instead.
    """

    port: int
    is_new: bool
    answers: list[float] = field(factory=list)
    failures: list[str] = field(factory=list)
    _session: _Session | None = None
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(factory=threading.Event)

    def start(self) -> None:
        """Begin; the session that was there before is made now."""
        if not self.is_new:
            self._session = _Session(self.port)
            self._session.deliver(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, once the message under way is answered."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2 * PATIENCE)
        if self._session is not None:
            self._session.close()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE):
            number += 1
            started = time.monotonic()
            session = self._session
            try:
                session = session or _Session(self.port)
                session.deliver(number)
                self.answers.append(time.monotonic() - started)
                if self._session is None:
                    session.quit()
            except OSError as error:
                self.answers.append(time.monotonic() - started)
                self.failures.append(str(error) or type(error).__name__)
                if session is not None:
                    session.close()
                if not self.is_new:
                    return

    @property
    def worst(self) -> float:
        """Seconds of the slowest."""
        return max(self.answers, default=0.0)
