"""``python -m lmtp_twisted.client``: what it prints, and how it ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from programs import Ended, Program
from real_servers import Serve
from test_client_to_our_server import CONTENT, endpoint_of

from lmtp_twisted import PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.client.command import status_of
from lmtp_twisted.testing import ScriptedDeliveries

NOBODY, GONE = PermanentFailure("No such user"), PermanentFailure("Gone", code=550, enhanced="5.2.1")
FULL = TemporaryFailure("Full", code=452, enhanced="4.2.2")


async def client(*arguments: str, given: bytes = CONTENT) -> Ended:
    """Run it."""
    return await Program((sys.executable, "-m", "lmtp_twisted.client", *arguments), given).end()


@pytest_twisted.ensureDeferred
async def test_there_is_a_line_for_each_recipient(serve: Serve, where: int | Path) -> None:
    """In the order of the recipients: who, and the server's reply."""
    backend = ScriptedDeliveries({"b@x": FULL}, recipients={"c@x": NOBODY})
    server = await serve(where, backend)
    ended = await client(endpoint_of(server), "--from=s@y", "--to=a@x", "--to=b@x", "--to=c@x", "--mail=BODY=8BITMIME")
    lines = ended.output.splitlines()
    assert lines[0].startswith("<a@x> 250 2.0.0 <a@x> "), ended
    assert lines[1].startswith("<b@x> 452 4.2.2 <b@x> ")
    assert lines[2:] == ["<c@x> 550 5.1.1 No such user"]
    assert ended.status == os.EX_TEMPFAIL
    assert ended.errors == ""
    (message,) = backend.messages
    assert message.read() == CONTENT
    assert message.envelope.sender.parameters.size == len(CONTENT)


@pytest_twisted.ensureDeferred
async def test_the_exit_status_says_what_became_of_all(serve: Serve) -> None:
    """sysexits(3)."""
    server = await serve(0, ScriptedDeliveries(recipients={"b@x": NOBODY}))
    ended = await client(endpoint_of(server), "--from=", "--to=a@x", given=b"Subject: a file\n\nof Unix\n")
    assert (ended.status, ended.errors) == (0, "")
    assert (await client(endpoint_of(server), "--from=", "--to=b@x")).status == os.EX_NOUSER
    await server.stop()
    ended = await client(endpoint_of(server), "--from=", "--to=a@x")
    assert ended.status == os.EX_TEMPFAIL
    assert ended.output.startswith(f"<a@x> 451 4.4.1 {endpoint_of(server)}: No connection: ")


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        ([(250, "2.0.0")], 0),
        ([(250, None), (451, "4.3.0"), (550, "5.1.1")], 75),
        ([(250, None), (550, "5.1.1"), (553, "5.1.3")], 67),
        ([(550, "5.1.2"), (550, "5.1.6"), (556, "5.1.10")], 67),
        ([(550, "5.1.1"), (552, "5.2.2")], 69),
        # The sender's address (RFC 3463 §3.2), and one of nobody knows whom.
        ([(550, "5.1.1"), (553, "5.1.7")], 69),
        ([(550, "5.1.8")], 69),
        ([(550, "5.1.0")], 69),
        ([(550, None)], 69),
    ],
)
def test_a_temporary_failure_comes_before_a_permanent_one(codes: list[Any], status: int) -> None:
    """Whoever sees it tries again, and learns of the permanent ones then."""
    assert status_of([Reply(code, enhanced) for code, enhanced in codes]) == status


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "required"),
        (("127.0.0.1:24", "--to=a@x"), "--from"),
        (("nonsense", "--from=", "--to=a@x"), "'nonsense' is no HOST:PORT"),
        (("127.0.0.1:24", "--from=", "--to=a@"), "'a@': the domain is malformed"),
        (("127.0.0.1:24", "--from=", "--to=a@x", "--mail=SIZE=x"), "parameters: Bad value of SIZE"),
        (("127.0.0.1:24", "--from=", "--to=a@x", "--user=u"), "--user needs"),
        (("127.0.0.1:24", "--from=", "--to=a@x", "--timeout=0"), "the time-out connect"),
        (("127.0.0.1:24", "--from=", "--to=a@x", "--ca=/none/there"), "/none/there: No such file"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_command_is_64_and_a_line(arguments: tuple[str, ...], says: str) -> None:
    """EX_USAGE: before anything is sent, or read."""
    ended = await client(*arguments)
    assert ended.status == os.EX_USAGE
    assert says in ended.errors
    assert "Traceback" not in ended.errors
    assert ended.output == ""


@pytest_twisted.ensureDeferred
async def test_a_message_that_cannot_be_read_is_66(serve: Serve) -> None:
    """EX_NOINPUT: a file that can be opened, and not read."""
    server = await serve(0, ScriptedDeliveries())
    command = f'"{sys.executable}" -m lmtp_twisted.client {endpoint_of(server)} --from= --to=a@x < /proc/self/mem'
    ended = await Program(("sh", "-c", command)).end()
    assert ended.status == os.EX_NOINPUT, ended
    assert "the message: " in ended.errors
    assert "Traceback" not in ended.errors


#: A pipe of which nobody reads: who read it has ended.
NO_READER = ">&$writer"


def shell(server: Any, redirections: str, to: str = "a@x") -> Program:
    """The command with such files, and with the buffers that it has in life."""
    arguments = f"{endpoint_of(server)} --from= --to={to}"
    command = f'env -u PYTHONUNBUFFERED "{sys.executable}" -m lmtp_twisted.client {arguments} {redirections}'
    pipe = "exec {writer}> >(:); wait $!; "
    return Program(("bash", "-c", pipe + command), CONTENT)


@pytest.mark.parametrize(("to", "status"), [("a@x", os.EX_OK), ("b@x", os.EX_TEMPFAIL), ("c@x", os.EX_NOUSER)])
@pytest.mark.parametrize("output", [">/dev/full", ">&-", NO_READER])
@pytest_twisted.ensureDeferred
async def test_a_report_that_cannot_be_written_changes_no_exit_status(
    serve: Serve, output: str, to: str, status: int
) -> None:
    """sysexits(3): a script that took the message for undelivered would send it again."""
    backend = ScriptedDeliveries({"b@x": FULL}, recipients={"c@x": NOBODY})
    server = await serve(0, backend)
    ended = await shell(server, output, to).end()
    assert ended.status == status, ended
    (line,) = ended.errors.splitlines()
    assert line.startswith("python -m lmtp_twisted.client: error: what became of the recipients cannot be written: ")
    quiet = await shell(server, f"{output} 2>/dev/full", to).end()
    assert (quiet.status, quiet.errors) == (status, "")


@pytest_twisted.ensureDeferred
async def test_standard_input_that_is_closed_is_66(serve: Serve) -> None:
    """EX_NOINPUT: there is no message, not an empty one."""
    backend = ScriptedDeliveries()
    ended = await shell(await serve(0, backend), "<&-").end()
    assert ended.status == os.EX_NOINPUT, ended
    assert ended.errors == "python -m lmtp_twisted.client: error: the message: standard input is closed\n"
    assert not backend.messages
