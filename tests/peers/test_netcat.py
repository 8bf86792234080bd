"""netcat: a client that says all it has to say, closes its half of the connection, and waits for the replies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from occasions import Occasions
from programs import Program, run
from real_servers import HOSTNAME, RealServer, Serve
from twisted.internet.defer import Deferred

from lmtp_twisted.protocol import LMTPProtocol
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("netcat")

#: Without QUIT.
MESSAGE = (
    b"LHLO client.example.net\r\nMAIL FROM:<sender@example.net>\r\n"
    b"RCPT TO:<one@example.org>\r\nRCPT TO:<two@example.org>\r\nRCPT TO:<three@example.org>\r\n"
    b"DATA\r\nSubject: x\r\n\r\nHello\r\n.\r\n"
)


def netcat(server: RealServer) -> tuple[str, ...]:
    """The command that shuts its half of the connection down after its input (-N)."""
    place = ("127.0.0.1", str(server.where)) if isinstance(server.where, int) else ("-U", server.path)
    return ("nc", "-N", *place)


@pytest_twisted.ensureDeferred
async def test_a_half_closed_client_gets_the_replies_of_deliveries_that_take_their_time(
    serve: Serve, start_program: Callable[..., Program], where: int | Path
) -> None:
    """A client that has no more to say is still listening."""
    slow: Deferred[str] = Deferred()
    server = await serve(where, ScriptedDeliveries({"two@example.org": slow}))
    half_closed: Occasions[LMTPProtocol] = Occasions("half-closed sessions")

    class Session(LMTPProtocol):
        def readConnectionLost(self) -> None:
            super().readConnectionLost()
            half_closed.add(self)

    server.factory.protocol = Session
    program = start_program(*netcat(server), given=MESSAGE)
    await half_closed.count(1)
    await program.says("<one@example.org>")
    # Others come and go meanwhile.
    assert (await run(*netcat(server), given=b"QUIT\r\n")).output.endswith("221 2.0.0 Bye\r\n")
    slow.callback("At last")
    ended = await program.end()
    assert ended.status == 0
    lines = ended.output.splitlines()
    assert lines[0] == f"220 {HOSTNAME} LMTP ready"
    assert [line.split()[2] for line in lines[-3:]] == ["<one@example.org>", "<two@example.org>", "<three@example.org>"]
    assert lines[-2].endswith(" At last")
    assert lines[-4].startswith("354 ")


@pytest_twisted.ensureDeferred
async def test_what_has_no_end_mark_is_not_delivered(serve: Serve, start_program: Callable[..., Program]) -> None:
    """RFC 5321 §4.1.1.4: content whose end mark never came is not a message."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    ended = await start_program(*netcat(server), given=MESSAGE.removesuffix(b".\r\n")).end()
    assert ended.output.splitlines()[-1].startswith("354 ")
    await server.sessions.until("sessionEnded", 1)
    assert not deliveries.messages
    assert deliveries.calls[-1][0] == "aborted"


@pytest_twisted.ensureDeferred
async def test_command_lines_without_cr_are_refused_at_once(
    serve: Serve, start_program: Callable[..., Program]
) -> None:
    """RFC 5321 §2.3.8: whoever types into netcat is told what is wrong, and nothing behind it is run."""
    deliveries = ScriptedDeliveries()
    server = await serve(0, deliveries)
    ended = await start_program(*netcat(server), given=MESSAGE.replace(b"\r\n", b"\n")).end()
    lines = ended.output.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("500 5.5.2 ")
    assert not deliveries.calls
