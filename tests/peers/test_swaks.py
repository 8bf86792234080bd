"""swaks shows what every recipient was told."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from programs import Ended, run
from real_servers import RealServer, Serve

from lmtp_twisted import PermanentFailure, TemporaryFailure
from lmtp_twisted.testing import ScriptedDeliveries

pytestmark = pytest.mark.peer("swaks")

RECIPIENTS = ("one@example.org", "unknown@example.org", "full@example.org", "refused@example.org", "last@example.org")


def deliveries() -> ScriptedDeliveries:
    """Of each kind one."""
    return ScriptedDeliveries(
        {
            "full@example.org": TemporaryFailure("Disk is full", code=452, enhanced="4.3.1"),
            "refused@example.org": PermanentFailure("Not wanted", code=550, enhanced="5.7.1"),
        },
        recipients={"unknown@example.org": PermanentFailure("No such mailbox")},
    )


async def swaks(server: RealServer, recipients: tuple[str, ...], *options: str) -> Ended:
    """Send a message to them with swaks."""
    place = ("--server", f"127.0.0.1:{server.where}") if isinstance(server.where, int) else ("--socket", server.path)
    addresses = ("--from", "sender@example.net", "--to", ",".join(recipients))
    return await run("swaks", "--protocol", "LMTP", "--helo", "client.example.net", *place, *addresses, *options)


def replies_after(output: str, command: str) -> list[str]:
    """What swaks shows of the replies to a command, up to the next: ``<-`` before positive ones, else ``<**``."""
    _, _, rest = output.rpartition(f" -> {command}\n")
    return rest.partition(" -> ")[0].splitlines()


@pytest.mark.parametrize("options", [(), ("--pipeline",)], ids=["lock-step", "pipelined"])
@pytest_twisted.ensureDeferred
async def test_swaks_hears_of_each_recipient_in_order(
    serve: Serve, where: int | Path, options: tuple[str, ...]
) -> None:
    """RFC 2033 §4.2, RFC 2920."""
    scripted = deliveries()
    server = await serve(where, scripted)
    ended = await swaks(server, RECIPIENTS, *options)
    assert ended.status == 0, ended
    (message,) = scripted.messages
    assert replies_after(ended.output, ".") == [
        f"<-  250 2.0.0 <one@example.org> {message.id}.1 Delivered",
        f"<** 452 4.3.1 <full@example.org> {message.id}.2 Disk is full",
        f"<** 550 5.7.1 <refused@example.org> {message.id}.3 Not wanted",
        f"<-  250 2.0.0 <last@example.org> {message.id}.4 Delivered",
    ]
    assert replies_after(ended.output, "QUIT")[0] == "<-  221 2.0.0 Bye"
    assert "<** 550 5.1.1 No such mailbox\n" in ended.output


@pytest_twisted.ensureDeferred
async def test_swaks_fails_where_no_recipient_is_left(serve: Serve) -> None:
    """RFC 2033 §4.2: DATA is refused, and no final replies come: the next is the one to QUIT."""
    server = await serve(0, deliveries())
    ended = await swaks(server, ("unknown@example.org",), "--pipeline")
    # swaks: no recipients accepted.
    assert ended.status == 24, ended
    assert "<** 503 5.5.1 No valid recipients\n" in ended.output
    assert replies_after(ended.output, "QUIT")[0] == "<-  221 2.0.0 Bye"
