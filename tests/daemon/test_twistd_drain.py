"""SIGTERM: a real process ends, and nobody is cut off who could have been told."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from certificates import client_context, write_certificate
from running_twistd import PATIENCE, Client, twistd

# The reactor itself is held until the test lets it go: what comes meanwhile waits in the kernel.
HOLDING = """\
import pathlib
def deliver(message, recipient):
    pathlib.Path("began").write_text("")
    open("pipe").read()
"""
# More than the reactor takes in one turn.
MANY = 60


def _listen_on(kind: str, directory: Path) -> str:
    return "tcp:0:interface=127.0.0.1" if kind == "TCP" else f"unix:{directory}/socket"


class Waiting(Client):
    """A connection that the server has not accepted yet."""

    def end(self) -> str:
        """All that the server says, to its end. A reset is an error."""
        text = ""
        while line := self._lines.readline():
            text += line
        return text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_that_comes_again_changes_nothing(number: signal.Signals, workers: str, tmp_path: Path) -> None:
    """Whether it comes at once or while sessions finish: they still get their replies (RFC 2033 §4.2)."""
    (tmp_path / "own.py").write_text("def deliver(message, recipient):\n    print('began')\n    open('pipe').read()\n")
    os.mkfifo(tmp_path / "pipe")
    arguments = ["--port", "0", "--backend", "python:own:deliver,threads=yes", "--workers", workers]
    with twistd(tmp_path, *arguments) as server:
        with Client(server.port) as client:
            if workers != "1":
                server.until("(?s)serves.*serves")
            client.begin("a@example.org")
            client.send(".\r\n")
            server.until("began")
            for _ in range(2):
                server.process.send_signal(number)
            server.until("(?s)stopping, " + ".*stopping, " * (int(workers) if workers != "1" else 0))
            server.process.send_signal(number)
            (tmp_path / "pipe").write_text("go on")
            assert client.reply().startswith("250 ")
        # A client that stays would have ten seconds more.
        assert server.ended() == -number
    assert "Traceback" not in server.output
    assert "critical" not in server.output


@pytest.mark.parametrize("kind", ["TCP", "Unix"])
def test_who_waits_in_the_queue_of_the_socket_is_told(kind: str, tmp_path: Path) -> None:
    """Closing a socket resets the connections that it has not accepted (RFC 5321 §3.8 wants a 421)."""
    (tmp_path / "own.py").write_text(HOLDING)
    os.mkfifo(tmp_path / "pipe")
    arguments = ["--listen", _listen_on(kind, tmp_path), "--backend", "python:own:deliver"]
    with twistd(tmp_path, *arguments) as server:
        to = {"port": server.port} if kind == "TCP" else {"path": tmp_path / "socket"}
        if kind == "Unix":
            server.until("listening on ")
        with Client(**to) as client:  # type: ignore[arg-type]  # one of the two
            client.begin("a@example.org")
            client.send(".\r\n")
            while not (tmp_path / "began").exists():
                pass
            waiting = [Waiting(**to, is_greeted=False) for _ in range(MANY)]  # type: ignore[arg-type]
            # Some have been told already what they may say.
            for number, early in enumerate(waiting):
                early.send("LHLO early\r\n" if number % 2 else "")
            server.terminate()
            (tmp_path / "pipe").write_text("go on")
            assert client.reply().startswith("250 ")
            assert client.say("NOOP").startswith("421 4.3.2 ")
            for early in waiting:
                assert early.end().split("\r\n")[-2].startswith("421 4.3.2 ")
                early.close()
        assert server.ended() == -signal.SIGTERM
    assert not (tmp_path / "socket").exists()


def test_who_is_in_the_midst_of_the_handshake_is_told_by_tls(tmp_path: Path) -> None:
    """The reply is for the inside of the connection."""
    write_certificate(tmp_path)
    arguments = ["--listen-tls", "tcp:0:interface=127.0.0.1", "--tls-certificate", "cert.pem", "--tls-key", "key.pem"]
    with twistd(tmp_path, *arguments, "--backend", "null:") as server:
        first, second = (socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(2))
        # The second is greeted, so the first has been accepted.
        with client_context().wrap_socket(second, server_hostname="mx.example") as secure:
            assert secure.recv(4) == b"220 "
        server.terminate()
        server.until("stopping, sessions=")
        with client_context().wrap_socket(first, server_hostname="mx.example") as secure:
            assert secure.recv(10) == b"421 4.3.2 "
        assert server.ended() == -signal.SIGTERM


def test_who_has_yet_to_say_whose_connection_it_is_is_told_after_it(tmp_path: Path) -> None:
    """A proxy sends its header at once, so it is on its way."""
    with twistd(tmp_path, "--listen", "haproxy:unix:socket", "--backend", "null:") as server:
        server.until("listening on ")
        with Client(path=tmp_path / "socket", is_greeted=False) as client:
            client.send("PROXY UNK")
            with Client(path=tmp_path / "socket", is_greeted=False) as other:
                other.send("PROXY UNKNOWN\r\n")
                assert other.reply().startswith("220 ")
                server.terminate()
                assert other.reply().startswith("421 4.3.2 ")
            client.send("NOWN\r\n")
            assert client.reply().startswith("421 4.3.2 ")
        assert server.ended() == -signal.SIGTERM


STREAMING = """\
import pathlib
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from zope.interface import implementer
from lmtp_twisted.interfaces import ILMTPDeliveryFactory, IStreamingDelivery

@implementer(IStreamingDelivery)
class Delivery:
    def validateFrom(self, sender): pass
    def validateTo(self, recipient): pass
    def aborted(self, reason): pathlib.Path("aborted").write_text("")
    async def deliver(self, message):
        async for chunk in message.chunks():
            pass
        await message.completed
        pathlib.Path("complete").write_text("")
        while not pathlib.Path("go").exists():
            pause = Deferred()
            reactor.callLater(0.01, pause.callback, None)
            await pause
        return [f"after all of {message.size}" for _ in message.recipients]

@implementer(ILMTPDeliveryFactory)
class Backend:
    def getDelivery(self, session): return Delivery()
"""


def test_a_delivery_that_streams_finishes_and_is_answered(tmp_path: Path) -> None:
    """Whose content has come; the other, whose content has not, is told 421 and will come again."""
    (tmp_path / "own.py").write_text(STREAMING)
    with twistd(tmp_path, "--listen", "unix:socket", "--backend", "python:own:Backend") as server:
        server.until("listening on ")
        with Client(path=tmp_path / "socket") as client, Client(path=tmp_path / "socket") as half:
            client.begin("a@example.org", "b@example.org")
            half.begin("a@example.org")
            client.send("Subject: x\r\n\r\nx\r\n.\r\n")
            while not (tmp_path / "complete").exists():
                pass
            server.terminate()
            assert half.reply().startswith("421 4.3.2 ")
            half.close()
            (tmp_path / "go").write_text("")
            for _ in range(2):
                assert "after all of " in client.reply()
            assert client.say("QUIT").startswith("221 ")
        assert server.ended() == -signal.SIGTERM


def test_the_time_to_drain_is_bounded(tmp_path: Path) -> None:
    """What is not delivered by then is answered 451."""
    (tmp_path / "own.py").write_text(STREAMING)
    arguments = ["--listen", "unix:socket", "--backend", "python:own:Backend", "--drain-timeout", "0.3"]
    with twistd(tmp_path, *arguments) as server:
        server.until("listening on ")
        with Client(path=tmp_path / "socket") as client:
            client.begin("a@example.org")
            client.send(".\r\n")
            while not (tmp_path / "complete").exists():
                pass
            server.terminate()
            assert client.reply().startswith("451 4.3.0 ")
        assert server.ended() == -signal.SIGTERM
    assert "1 sessions did not finish in 0.3 s" in server.output
