"""``pipe:COMMAND ARGUMENT…``: programs of the shell, with the real reactor."""

from __future__ import annotations

import gc
import grp
import os
import pwd
import re
import time
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.pipe import PipeBackend
from lmtp_twisted.errors import DeliveryError, PermanentFailure, TemporaryFailure
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import FakePool
from lmtp_twisted.wire.parameters import Body

Receive = Callable[..., ReceivedMessage]
#: Makes a backend of a script of the shell, and of options such as ``,timeout=5``.
Make = Callable[..., PipeBackend]


def build(description: str) -> PipeBackend:
    backend = BackendContext(reactor, FakePool(), "mx.example.org").build(description)  # type: ignore[arg-type]
    assert isinstance(backend, PipeBackend)
    return backend


@pytest_twisted.async_yield_fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Programs run in ``tmp_path``; none outlives its test."""
    made: list[PipeBackend] = []

    def make(script: str, arguments: str = "", options: str = "") -> PipeBackend:
        path = tmp_path / f"program{len(made)}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        if ",timeout=" not in options:
            # A test that fails must not leave one behind that waits for ever.
            options += ",timeout=10"
        made.append(build(f"pipe:'{path}' {arguments},directory={tmp_path}{options}"))
        return made[-1]

    yield make
    for backend in made:
        await backend.shut_down()


async def outcomes(backend: PipeBackend, message: ReceivedMessage) -> list[Any]:
    """What becomes of each recipient: ``None``, or the refusal."""
    results = await DeferredList(backend.deliver(message), consumeErrors=True)
    return [result.value if isinstance(result, Failure) else result for _, result in results]


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what a program does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]  # the real reactor


# What the program gets


@pytest_twisted.ensureDeferred
async def test_the_program_is_run_once_for_each_recipient(make: Make, receive: Receive, tmp_path: Path) -> None:
    """RFC 2033 §4.2: each has its own outcome."""
    backend = make(
        'printf "%s|" "$@" >"$USER"; test "$USER" != bob || exit 67', "-f {sender} -- {recipient} {extension}"
    )
    alice, bob, carol = await outcomes(backend, receive("alice+x@example.org", "Bob@example.org", "carol@example.org"))
    assert (alice, carol) == (None, None)
    assert (bob.code, bob.enhanced) == (550, "5.1.1")
    assert (tmp_path / "alice").read_text() == "-f|sender@example.net|--|alice+x@example.org|x|"
    assert (tmp_path / "carol").read_text() == "-f|sender@example.net|--|carol@example.org||"


@pytest_twisted.ensureDeferred
async def test_it_reads_the_trace_headers_and_the_content_with_line_feeds(
    make: Make, receive: Receive, tmp_path: Path
) -> None:
    """RFC 5321 §4.4."""
    message = receive("alice@x")
    assert await outcomes(make("cat >read"), message) == [None]
    expected = (message.trace() + message.read()).replace(b"\r\n", b"\n")
    assert (tmp_path / "read").read_bytes() == expected
    assert expected.startswith(b"Return-Path: <sender@example.net>\nReceived: from ")


@pytest_twisted.ensureDeferred
async def test_it_may_read_line_ends_as_they_were_sent(make: Make, receive: Receive, tmp_path: Path) -> None:
    message = receive("alice@x")
    await outcomes(make("cat >read", options=",newlines=crlf"), message)
    assert (tmp_path / "read").read_bytes() == message.trace() + message.read()


@pytest_twisted.ensureDeferred
async def test_a_binary_message_is_given_as_it_is(make: Make, receive: Receive, tmp_path: Path) -> None:
    """RFC 3030 §3."""
    message = receive("alice@x", content=b"\r\n\n\r\x00", body=Body.BINARY_MIME)
    await outcomes(make("cat >read"), message)
    assert (tmp_path / "read").read_bytes() == message.trace() + b"\r\n\n\r\x00"


@pytest.mark.parametrize(
    ("sender", "name"), [("a@x", "a@x"), ("", "MAILER-DAEMON"), ('"a b"@x', '"a_b"@x')], ids=["plain", "null", "blank"]
)
@pytest_twisted.ensureDeferred
async def test_it_may_have_a_from_line_and_delivered_to(
    make: Make, receive: Receive, tmp_path: Path, sender: str, name: str
) -> None:
    """As procmail wants it, and as a file of type mbox has it."""
    await outcomes(make("cat >read", options=",from_line=yes,delivered_to=yes"), receive("Al@x", sender=sender))
    first, *lines = (tmp_path / "read").read_text().splitlines()
    who, _, date = first.removeprefix("From ").partition(" ")
    assert who == name
    time.strptime(date, "%a %b %d %H:%M:%S %Y")
    assert lines[:2] == [f"Return-Path: <{sender}>", "Delivered-To: Al@x"]


@pytest_twisted.ensureDeferred
async def test_a_message_that_lies_in_a_file_is_given_whole(make: Make, receive: Receive, tmp_path: Path) -> None:
    """Line ends are found also where a block ends between CR and LF, or holds a CR alone."""
    content = b"Subject: long\r\n\r\n" + b"0123456789\r\n" * 300_000 + b"\r\r\n" * 10
    message = receive("alice@x", content=content, block=65537)
    assert not message.inMemory
    assert await outcomes(make("cat >read"), message) == [None]
    assert (tmp_path / "read").read_bytes() == (message.trace() + content).replace(b"\r\n", b"\n")


@pytest_twisted.ensureDeferred
async def test_a_carriage_return_that_came_alone_is_no_end(make: Make, receive: Receive, tmp_path: Path) -> None:
    """As a segment of its own it gives an empty block, and the rest of the message follows."""
    message = receive("alice@x")
    message._content._chunks = [b"one", b"\r", b"\ntwo\r\n"]
    assert await outcomes(make("cat >read"), message) == [None]
    assert (tmp_path / "read").read_bytes().endswith(b"\none\ntwo\n")


@pytest_twisted.ensureDeferred
async def test_its_environment_is_small(
    make: Make, receive: Receive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours gets there but what stands on the page."""
    for name, value in {"SECRET": "x", "PYTHONPATH": "x", "LISTEN_FDS": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC"}.items():
        monkeypatch.setenv(name, value)
    await outcomes(make("env -0 >environment"), receive("alice@x"))
    found = dict(entry.split("=", 1) for entry in (tmp_path / "environment").read_text().split("\0") if entry)
    ours = {"PATH", "TZ", "LANG", "LC_ALL", "HOME", "SHELL", "PWD"}
    told = {name for name in found if name not in ours}
    assert told == {
        *("SENDER", "RECIPIENT", "ORIGINAL_RECIPIENT", "USER", "LOGNAME", "EXTENSION", "LOCAL", "DOMAIN"),
        *("SIZE", "QUEUE_ID", "ENVID", "SASL_USERNAME", "SASL_SENDER"),
        *("CLIENT_ADDRESS", "CLIENT_PORT", "CLIENT_HOSTNAME", "CLIENT_HELO", "CLIENT_PROTOCOL"),
    }
    assert (found["HOME"], found["SHELL"]) == (pwd.getpwuid(os.geteuid()).pw_dir, "/bin/sh")
    assert (found["TZ"], found["PWD"]) == ("UTC", str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("user", "group"), [("daemon", "daemon"), ("daemon:mail", "mail")])
@pytest_twisted.ensureDeferred
async def test_it_runs_as_the_user_that_was_named(receive: Receive, user: str, group: str) -> None:
    """With that one's groups and home, and nothing of ours."""
    there, gid = pwd.getpwnam("daemon"), grp.getgrnam(group).gr_gid
    backend = build(f"pipe:sh -c 'echo $(id -u) $(id -g) $HOME $PWD $(id -G) >&2; exit 1',user={user},directory=/")
    (outcome,) = await outcomes(backend, receive("alice@x"))
    uid, found, home, directory, *groups = outcome.text.split()
    assert (int(uid), int(found), home, directory) == (there.pw_uid, gid, there.pw_dir, "/")
    assert set(map(int, groups)) == set(os.getgrouplist("daemon", gid))


# How many at a time


@pytest_twisted.ensureDeferred
async def test_only_so_many_run_at_a_time(make: Make, receive: Receive, tmp_path: Path) -> None:
    backend = make("echo 1 >>log; sleep 0.05; echo -1 >>log", options=",processes=3")
    messages = [receive(*(f"{name}@x" for name in "abcd")) for _ in range(3)]
    waiting = [outcome for message in messages for outcome in backend.deliver(message)]
    assert await DeferredList(waiting) == [(True, None)] * 12
    running, most = 0, 0
    for line in (tmp_path / "log").read_text().split():
        running += int(line)
        most = max(most, running)
    assert (running, most) == (0, 3)


@pytest_twisted.ensureDeferred
async def test_a_message_to_many_leaves_turns_to_others(make: Make, receive: Receive, tmp_path: Path) -> None:
    """It has no more in the queue than may run at a time."""
    backend = make('echo "$USER" >>log', options=",processes=1")
    many = backend.deliver(receive(*(f"u{number}@x" for number in range(30))))
    one = backend.deliver(receive("other@x"))
    await DeferredList([*many, *one])
    assert (tmp_path / "log").read_text().split().index("other") <= 2


@pytest_twisted.ensureDeferred
async def test_when_too_many_wait_mail_is_put_off(make: Make, receive: Receive, tmp_path: Path) -> None:
    """At MAIL, and not by refusing a part of a message that was accepted."""
    os.mkfifo(tmp_path / "fifo")
    backend = make("cat fifo", options=",processes=2,queue=3")
    waiting: list[Deferred[Any]] = []
    for _ in range(5):
        message = receive("alice@x")
        assert backend.getDelivery(message.session) is backend
        waiting += backend.deliver(message)
    with pytest.raises(TemporaryFailure) as refused:
        backend.getDelivery(receive("alice@x").session)
    assert (refused.value.code, refused.value.enhanced) == (451, "4.3.2")
    for outcome in waiting:
        outcome.addErrback(lambda failure: failure.trap(CancelledError) and None)
    waiting[-1].cancel()
    # Who has given up waits no more, once its turn would have come.
    for outcome in waiting[:-1]:
        outcome.cancel()
    await backend.shut_down()
    assert backend.getDelivery(receive("alice@x").session) is backend


# What comes in between


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_is_cancelled_ends_its_program_and_gives_its_turn_on(
    make: Make, receive: Receive, tmp_path: Path
) -> None:
    backend = make('echo $$ >>pids; test "$USER" = next || sleep 600', options=",processes=1")
    (first,) = backend.deliver(receive("first@x"))
    (second,) = backend.deliver(receive("second@x"))
    (third,) = backend.deliver(receive("next@x"))
    await until((tmp_path / "pids").exists)
    for cancelled in (first, second):
        cancelled.cancel()
        with pytest.raises(CancelledError):
            await cancelled
    assert await third is None
    # The second has never run.
    numbers = (tmp_path / "pids").read_text().split()
    assert len(numbers) == 2
    assert not Path(f"/proc/{numbers[0]}").exists()


@pytest_twisted.ensureDeferred
async def test_one_that_takes_too_long_is_tried_again(make: Make, receive: Receive) -> None:
    (outcome,) = await outcomes(make("sleep 600", options=",timeout=0.1"), receive("alice@x"))
    assert (outcome.code, outcome.enhanced) == (451, "4.4.7")


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_there_no_more_is_tried_again(make: Make, receive: Receive, tmp_path: Path) -> None:
    """All that an operator can mend is temporary, and the log says what is wrong."""
    events: list[LogEvent] = []
    backend = make("exit 0")
    (tmp_path / "program0").unlink()
    globalLogPublisher.addObserver(events.append)
    try:
        (outcome,) = await outcomes(backend, receive("alice@x"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert (outcome.code, outcome.enhanced, outcome.text) == (451, "4.3.0", "Cannot deliver now, try again later")
    assert [event["error"].filename for event in events if "error" in event] == [str(tmp_path / "program0")]


@pytest_twisted.ensureDeferred
async def test_the_log_says_how_a_program_ended_in_one_line(make: Make, receive: Receive) -> None:
    events: list[LogEvent] = []
    backend = make('printf "one\\ntwo\\033[31m" >&2; kill -SEGV $$')
    globalLogPublisher.addObserver(events.append)
    try:
        await outcomes(backend, receive("alice@x"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = (event for event in events if "what" in event)
    assert (event["what"], event["errors"]) == ("signal 11", "one two?[31m")


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_programs_that_run(make: Make, receive: Receive, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    backend = make("cat fifo >/dev/null; : >done")
    (outcome,) = backend.deliver(receive("alice@x"))
    ended = backend.shut_down()
    (tmp_path / "fifo").write_bytes(b"")
    await ended
    assert (tmp_path / "done").exists()
    assert await outcome is None


def test_hostile_names_are_refused_at_rcpt_and_at_mail(receive: Receive) -> None:
    """Before the content is sent; deliver looks once more."""
    backend = build("pipe:env")
    with pytest.raises(PermanentFailure):
        backend.validateTo(receive("-f@x").recipients[0])
    with pytest.raises(PermanentFailure):
        backend.validateFrom(receive("a@x", sender="-f@x").envelope.sender)
    for message in (receive("-f@x"), receive("a@x", sender="-f@x")):
        (outcome,) = backend.deliver(message)
        assert isinstance(outcome.value, DeliveryError)
    backend.validateTo(receive("a@x").recipients[0])
    backend.validateFrom(receive("a@x", sender="").envelope.sender)
    backend.aborted("nothing was reserved")


# What is wrong with a description


@pytest.mark.parametrize(
    ("description", "complaint"),
    [
        ("pipe:", "pipe: it needs a command, as in pipe:/usr/local/bin/deliver {recipient}"),
        ("pipe:no-such-program", "pipe: there is no program 'no-such-program' in PATH"),
        ("pipe:/etc/passwd", "pipe: /etc/passwd cannot be executed"),
        ("pipe:env {who}", "pipe: {who} is unknown"),
        ("pipe:env,timeout=0", "pipe: timeout is a number of seconds, not '0'"),
        ("pipe:env,timeout=1m", "pipe: timeout is a number of seconds, not '1m'"),
        ("pipe:env,processes=0", "pipe: processes is a number from 1 to 9999, not '0'"),
        ("pipe:env,queue=-1", "pipe: queue is a number from 1 to 9999, not '-1'"),
        ("pipe:env,queue=\u0663", "pipe: queue is a number"),
        ("pipe:env,separator=a", "pipe: separator is punctuation"),
        ("pipe:env,case=upper", "pipe: case is fold or keep"),
        ("pipe:env,newlines=cr", "pipe: newlines is lf or crlf"),
        ("pipe:env,from_line=1", "pipe: from_line is yes or no"),
        ("pipe:env,delivered_to=", "pipe: delivered_to is yes or no"),
        ("pipe:env,directory=/nonexistent", "pipe: there is no directory /nonexistent"),
        ("pipe:env,user=no-such-user", "pipe: user=no-such-user: "),
        ("pipe:env,user=daemon:no-such-group", "pipe: user=daemon:no-such-group: "),
        ("pipe:env {user},timeuot=5", "pipe: ',timeuot=5' are not its options"),
    ],
)
def test_what_is_wrong_is_one_line(description: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"\A{re.escape(complaint)}.*\Z"):
        build(description)


def test_only_root_can_name_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the server will be when it runs, so --uid counts."""
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(ValueError, match="only root can run programs as another user"):
        build("pipe:env,user=daemon")


def test_a_user_that_is_none_of_the_machine_is_at_home_in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""
    monkeypatch.setattr(os, "geteuid", lambda: 987654321)
    assert build("pipe:env")._environment[b"HOME"] == b"/"


@pytest_twisted.ensureDeferred
async def test_who_has_given_up_takes_no_place_in_the_queue(make: Make, receive: Receive, tmp_path: Path) -> None:
    """Nor does its message: a client that comes and goes would else put off all others."""
    os.mkfifo(tmp_path / "fifo")
    backend = make("cat fifo >/dev/null", options=",processes=1,queue=1")
    (runs,) = backend.deliver(receive("alice@x"))
    message = receive("bob@x")
    session, gone = message.session, weakref.ref(message._content)
    (waits,) = backend.deliver(message)
    del message
    with pytest.raises(TemporaryFailure):
        backend.getDelivery(session)
    waits.cancel()
    with pytest.raises(CancelledError):
        await waits
    assert backend.getDelivery(session) is backend
    gc.collect()
    assert gone() is None
    (tmp_path / "fifo").write_bytes(b"")
    assert await runs is None


@pytest_twisted.ensureDeferred
async def test_where_there_is_no_thread_left_it_is_tried_again(
    make: Make, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the turn is not lost."""
    backend = make("exit 0", options=",processes=1")

    def start(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", start)
        (outcome,) = await outcomes(backend, receive("alice@x"))
    assert isinstance(outcome, RuntimeError)
    assert await outcomes(backend, receive("alice@x")) == [None]
