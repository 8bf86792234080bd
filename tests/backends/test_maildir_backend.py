"""The Maildir backend as the server sees it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.threadpool import ThreadPool
from zope.interface.verify import verifyObject

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.maildir import Case, Fsync, MaildirBackend, Newlines, backend
from lmtp_twisted.backends.maildir.refusals import refusal_of
from lmtp_twisted.envelope import Recipient
from lmtp_twisted.errors import DeliveryError, PermanentFailure, TemporaryFailure
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor
from lmtp_twisted.wire.addresses import parse_mailbox

Receive = Callable[..., ReceivedMessage]


def recipient(address: str) -> Recipient:
    return Recipient(parse_mailbox(address.encode()))


def fake(root: Path, pool: FakePool | None = None, **options: Any) -> MaildirBackend:
    """A backend without threads."""
    options = {"hostname": "mx.example.org", "reactor": FakeReactor(), "pool": pool or FakePool(), **options}
    return MaildirBackend(str(root), **options)


def new(root: Path, *names: str) -> list[Path]:
    directory = root.joinpath(*names, "new")
    return sorted(directory.iterdir()) if directory.is_dir() else []


def said(outcome: object) -> tuple[int | None, str | None] | None:
    if outcome is None:
        return None
    assert isinstance(outcome, DeliveryError)
    return outcome.code, outcome.enhanced


def result(deferred: Any) -> Any:
    """What a Deferred that has fired gave."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    (value,) = results
    return value


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """The events of warnings and errors."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


pytestmark = pytest.mark.usefixtures("no_linger")


# Delivering


def test_it_provides_what_it_says(tmp_path: Path) -> None:
    one = fake(tmp_path)
    assert verifyObject(ILMTPDeliveryFactory, one)
    assert verifyObject(ILMTPDelivery, one)


def test_a_whole_session_ends_in_the_mailboxes(tmp_path: Path) -> None:
    client = Conversation(LMTPFactory(backend=fake(tmp_path), reactor=FakeReactor()))
    client.say("LHLO client.example", "MAIL FROM:<a@example.net>", "RCPT TO:<Bob@Example.org>", "RCPT TO:<Postmaster>")
    replies = client.say("DATA", "Subject: hello", "", "..dot", ".")[1:]
    assert [reply[:9] for reply in replies] == ["250 2.0.0", "250 2.0.0"]
    (file,) = new(tmp_path, "example.org", "bob")
    assert file.read_bytes().endswith(b"\nSubject: hello\n\n.dot\n")
    (same,) = new(tmp_path, "mx.example.org", "postmaster")
    assert same.stat().st_ino == file.stat().st_ino


def test_spellings_of_one_mailbox_share_a_copy_and_an_outcome(tmp_path: Path, receive: Receive) -> None:
    outcomes = result(fake(tmp_path).deliver(receive("Bob@x", "bob@X", "BOB@x")))
    assert outcomes == [None, None, None]
    assert len(new(tmp_path, "x", "bob")) == 1


def test_a_name_that_no_mailbox_can_have_is_refused_alone(tmp_path: Path, receive: Receive) -> None:
    outcomes = result(fake(tmp_path).deliver(receive("a@x", '"../b"@x', "c@x")))
    assert [said(outcome) for outcome in outcomes] == [None, (553, "5.1.3"), None]


def test_a_message_whose_recipients_are_all_refused_is_answered(tmp_path: Path, receive: Receive) -> None:
    outcomes = result(fake(tmp_path).deliver(receive('"a/b"@x', '".."@x')))
    assert [said(outcome) for outcome in outcomes] == [(553, "5.1.3")] * 2


def test_the_options_reach_the_files(tmp_path: Path, receive: Receive) -> None:
    one = fake(tmp_path, case=Case.KEEP, newlines=Newlines.CRLF)
    result(one.deliver(receive("Bob@x")))
    assert new(tmp_path, "x", "Bob")[0].read_bytes().endswith(b"The second\r\n")


def test_any_sender_is_accepted_and_nothing_is_reserved(tmp_path: Path, receive: Receive) -> None:
    one = fake(tmp_path)
    assert one.validateFrom(receive("a@x").envelope.sender) is None  # type: ignore[func-returns-value]  # the contract
    assert one.aborted("RSET") is None  # type: ignore[func-returns-value]  # the contract
    assert os.listdir(tmp_path) == []


# RCPT


def test_where_mailboxes_are_made_nobody_has_to_look(tmp_path: Path) -> None:
    pool = FakePool(immediate=False)
    assert fake(tmp_path, pool).validateTo(recipient("new@x")) is None
    assert pool.run() == 0


def test_a_name_that_no_mailbox_can_have_is_refused_at_rcpt(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure) as refused:
        fake(tmp_path).validateTo(recipient('"a/b"@x'))
    assert said(refused.value) == (553, "5.1.3")


def test_a_thread_looks_whether_a_mailbox_exists(tmp_path: Path) -> None:
    (tmp_path / "x/bob").mkdir(parents=True)
    pool = FakePool(immediate=False)
    found = fake(tmp_path, pool, create=False).validateTo(recipient("bob@x"))
    assert isinstance(found, Deferred)
    assert not found.called
    assert pool.run() == 1
    assert result(found) is None


def test_who_has_no_mailbox_is_refused_at_rcpt(tmp_path: Path, logged: list[LogEvent]) -> None:
    failure = result(fake(tmp_path, create=False).validateTo(recipient("bob@x")))
    assert said(failure.value) == (550, "5.1.1")
    assert logged == []


def test_and_at_delivery(tmp_path: Path, receive: Receive) -> None:
    (tmp_path / "x/bob").mkdir(parents=True)
    outcomes = result(fake(tmp_path, create=False).deliver(receive("bob@x", "eve@x")))
    assert [said(outcome) for outcome in outcomes] == [None, (550, "5.1.1")]
    assert not (tmp_path / "x/eve").exists()


def test_a_mailbox_that_had_mail_is_not_looked_for_again(tmp_path: Path, receive: Receive) -> None:
    (tmp_path / "x/bob").mkdir(parents=True)
    one = fake(tmp_path, create=False)
    result(one.deliver(receive("bob@x")))
    assert one.validateTo(recipient("Bob@X")) is None


def test_a_disk_that_cannot_be_asked_says_try_again(tmp_path: Path, logged: list[LogEvent], disk: Any) -> None:
    one = fake(tmp_path, create=False)
    disk.fail("open", "", errno.EIO)
    failure = result(one.validateTo(recipient("bob@x")))
    assert said(failure.value) == (451, "4.3.0")
    (event,) = logged
    assert (event["mailbox"], event["error"].errno) == ("x/bob", errno.EIO)


# Failures


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (errno.ENOSPC, (452, "4.3.1")),
        (errno.EDQUOT, (452, "4.2.2")),
        (errno.EMFILE, (451, "4.3.2")),
        (errno.ENFILE, (451, "4.3.2")),
        (errno.EACCES, (451, "4.3.0")),
        (errno.EIO, (451, "4.3.0")),
        (errno.ENOENT, (451, "4.3.0")),
    ],
)
def test_an_error_of_the_disk_is_a_temporary_failure_that_says_which(
    tmp_path: Path, receive: Receive, disk: Any, logged: list[LogEvent], number: int, answer: tuple[int, str]
) -> None:
    """RFC 3463 §3.4 and §3.3; the reply names no path, the log does."""
    one = fake(tmp_path)
    disk.fail("open", "x/bob/tmp/", number)
    outcomes = result(one.deliver(receive("bob@x", "eve@x")))
    assert [said(outcome) for outcome in outcomes] == [answer, None]
    assert "/" not in outcomes[0].text
    (event,) = logged
    assert (event["mailbox"], event["error"].errno) == ("x/bob", number)


def test_a_defect_of_ours_is_a_temporary_failure_with_a_traceback_in_the_log(
    tmp_path: Path, receive: Receive, disk: Any, logged: list[LogEvent]
) -> None:
    one = fake(tmp_path)
    disk.fail("open", "x/bob/tmp/", ZeroDivisionError())
    (outcome,) = result(one.deliver(receive("bob@x")))
    assert said(outcome) == (451, "4.3.0")
    (event,) = logged
    assert event["log_failure"].type is ZeroDivisionError


def test_a_batch_that_was_not_filed_at_all_is_a_temporary_failure(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch, logged: list[LogEvent]
) -> None:
    one = fake(tmp_path)
    monkeypatch.setattr(one._lane, "file", lambda batch: 1 / 0)
    (outcome,) = result(one.deliver(receive("bob@x")))
    assert said(outcome) == (451, "4.3.0")
    assert len(logged) == 1


def test_a_refusal_stays_what_it_is() -> None:
    refusal = PermanentFailure("no", code=550)
    assert refusal_of(refusal) is refusal


# Cancelling


def test_a_cancelled_delivery_leaves_nothing(tmp_path: Path, receive: Receive, logged: list[LogEvent]) -> None:
    pool = FakePool(immediate=False)
    done = fake(tmp_path, pool).deliver(receive("bob@x"))
    done.cancel()
    assert result(done).check(CancelledError)
    pool.run()
    assert new(tmp_path, "x", "bob") == []
    assert logged == []


def test_one_that_was_filed_before_it_was_cancelled_is_logged(
    tmp_path: Path, receive: Receive, disk: Any, logged: list[LogEvent]
) -> None:
    """The client was told to try again, so the message will come twice."""
    pool = FakePool(immediate=False)
    done = fake(tmp_path, pool).deliver(receive("bob@x"))
    done.addErrback(lambda failure: failure.trap(CancelledError))
    disk.before("fsync", "bob/new", done.cancel)
    pool.run()
    assert len(new(tmp_path, "x", "bob")) == 1
    assert [event["mailboxes"] for event in logged] == [["x/bob"]]


# Bounds


def test_when_too_many_messages_wait_new_ones_are_put_off(
    tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3463 §3.4: X.3.2 the system is not accepting messages now."""
    monkeypatch.setattr(backend, "MOST_WAITING", 2)
    pool = FakePool(immediate=False)
    one = fake(tmp_path, pool)
    session = receive("a@x").session
    for _ in range(2):
        assert one.getDelivery(session) is one
        one.deliver(receive("bob@x"))
    with pytest.raises(TemporaryFailure) as refused:
        one.getDelivery(session)
    assert said(refused.value) == (451, "4.3.2")
    pool.run()
    assert one.getDelivery(session) is one


def test_when_too_much_waits_in_memory_too(tmp_path: Path, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    message, in_a_file = receive("bob@x"), receive("bob@x", block=10)
    monkeypatch.setattr(backend, "MOST_OCTETS", message.size)
    pool = FakePool(immediate=False)
    one = fake(tmp_path, pool)
    one.deliver(in_a_file)
    assert one.getDelivery(message.session) is one
    one.deliver(message)
    with pytest.raises(TemporaryFailure):
        one.getDelivery(message.session)
    pool.run()
    assert one.getDelivery(message.session) is one


# With threads


@pytest_twisted.ensureDeferred
async def test_nobody_waits_behind_a_large_message(
    tmp_path: Path, receive: Receive, pool: ThreadPool, disk: Any
) -> None:
    go_on = threading.Event()
    one = MaildirBackend(str(tmp_path), reactor=reactor, pool=pool)
    # Every thread that could take a large message is busy with one.
    for _ in range(2):
        disk.before("write", "large/tmp", lambda: go_on.wait(60))
    large = [one.deliver(receive("large@x", block=10)) for _ in range(3)]
    assert await one.deliver(receive("small@x")) == [None]
    assert new(tmp_path, "x", "large") == []
    go_on.set()
    assert [await each for each in large] == [[None]] * 3
    await one.shut_down()


@pytest_twisted.ensureDeferred
async def test_many_messages_for_many_recipients_all_arrive(tmp_path: Path, receive: Receive, pool: ThreadPool) -> None:
    one = MaildirBackend(str(tmp_path), fsync=Fsync.NO, reactor=reactor, pool=pool)
    waiting = [one.deliver(receive(*(f"u{(number + each) % 7}@x" for each in range(3)))) for number in range(70)]
    assert [await each for each in waiting] == [[None, None, None]] * 70
    assert [len(new(tmp_path, "x", f"u{number}")) for number in range(7)] == [30] * 7
    await one.shut_down()


@pytest_twisted.ensureDeferred
async def test_shutting_down_waits_for_what_is_under_way_and_closes_what_is_open(
    tmp_path: Path, receive: Receive, pool: ThreadPool, disk: Any
) -> None:
    go_on = threading.Event()
    one = MaildirBackend(str(tmp_path), reactor=reactor, pool=pool)
    disk.before("write", "", lambda: go_on.wait(60))
    waiting = one.deliver(receive("bob@x"))
    down = one.shut_down()
    assert not down.called
    go_on.set()
    await down
    assert waiting.called
    assert not one._mailboxes.knows(("x", "bob"))
    assert await waiting == [None]


@pytest_twisted.ensureDeferred
async def test_it_can_be_used_after_it_was_shut_down(tmp_path: Path, receive: Receive, pool: ThreadPool) -> None:
    one = MaildirBackend(str(tmp_path), reactor=reactor, pool=pool)
    await one.shut_down()
    assert await one.deliver(receive("bob@x")) == [None]
    await one.shut_down()


@pytest_twisted.ensureDeferred
async def test_an_address_that_no_directory_has_is_looked_for_in_a_thread(tmp_path: Path, pool: ThreadPool) -> None:
    one = MaildirBackend(str(tmp_path), create=False, reactor=reactor, pool=pool)
    with pytest.raises(PermanentFailure):
        await one.validateTo(recipient("bob@x"))  # type: ignore[misc]  # a Deferred here


# From a description


def context(**options: Any) -> BackendContext:
    return BackendContext(FakeReactor(), FakePool(), **{"hostname": "mx.example.org", **options})  # type: ignore[arg-type]


def test_a_description_gives_a_backend(tmp_path: Path, receive: Receive) -> None:
    built = context().build(f"maildir:{tmp_path}/{{local}},create=yes,case=keep,newlines=crlf,fsync=no")
    assert result(built.deliver(receive("Bob@x"))) == [None]  # type: ignore[attr-defined]  # its own delivery
    assert new(tmp_path, "Bob")[0].read_bytes().endswith(b"\r\n")


def test_fsync_is_not_yes_or_no_but_how(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="fsync is a member of Fsync, not False"):
        MaildirBackend(str(tmp_path), fsync=False)  # type: ignore[arg-type]


def test_fsync_no_syncs_nothing(tmp_path: Path, receive: Receive, disk: Any) -> None:
    result(context().build(f"maildir:{tmp_path},fsync=no").deliver(receive("bob@x")))  # type: ignore[attr-defined]
    assert disk.made("fsync") == []


def test_create_no_makes_nothing(tmp_path: Path) -> None:
    built = context().build(f"maildir:{tmp_path},create=no")
    assert said(result(built.validateTo(recipient("bob@x"))).value) == (550, "5.1.1")  # type: ignore[attr-defined]


def test_local_names_are_in_the_domain_of_the_context(tmp_path: Path, receive: Receive) -> None:
    result(context(hostname="Here.example").build(f"maildir:{tmp_path}").deliver(receive("root")))  # type: ignore[attr-defined]
    assert len(new(tmp_path, "here.example", "root")) == 1


def test_without_a_name_the_hosts_own_is_taken(tmp_path: Path, receive: Receive) -> None:
    one = MaildirBackend(str(tmp_path), reactor=FakeReactor(), pool=FakePool())  # type: ignore[arg-type]
    result(one.deliver(receive("root")))
    assert len(new(tmp_path, Settings().hostname.lower(), "root")) == 1


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("maildir:", "needs a directory"),
        ("maildir:DIR,create=maybe", "create is yes, mailboxes or no, not 'maybe'"),
        ("maildir:DIR,case=lower", "case is fold or keep, not 'lower'"),
        ("maildir:DIR,newlines=cr", "newlines is lf or crlf, not 'cr'"),
        ("maildir:DIR,fsync=", "fsync is yes, each or no, not ''"),
        ("maildir:DIR,mode=600", "',mode=600' are not its options"),
        ("maildir:DIR/missing,create=no", "No such file or directory"),
        ("maildir:DIR/file", "Not a directory|File exists"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_built(tmp_path: Path, description: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=reason) as refused:
        context().build(description.replace("DIR", str(tmp_path)))
    assert str(refused.value).startswith("maildir: ")
    assert "\n" not in str(refused.value)


def test_the_context_shuts_it_down(tmp_path: Path, receive: Receive) -> None:
    surroundings = context()
    built: Any = surroundings.build(f"maildir:{tmp_path}")
    result(built.deliver(receive("bob@x")))
    assert built._mailboxes.knows(("x", "bob"))
    assert result(surroundings.shut_down()) is None
    assert not built._mailboxes.knows(("x", "bob"))


@pytest_twisted.ensureDeferred
async def test_the_global_reactor_and_its_pool_serve_where_none_are_given(tmp_path: Path, receive: Receive) -> None:
    one = MaildirBackend(str(tmp_path))
    assert await one.deliver(receive("bob@x")) == [None]
    await one.shut_down()
