"""``python:package.module:attribute``"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import operators_code
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.errors import PermanentFailure
from lmtp_twisted.factory import LMTPFactory
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor

Receive = Callable[..., ReceivedMessage]


def build(description: str, pool: Any = None) -> Any:
    clock = FakeReactor() if pool is None else reactor
    return BackendContext(clock, pool or FakePool(), "mx.example.org").build(description)


def replies(backend: Any, *recipients: str) -> list[str]:
    """What a session that sends one message is answered at its end, without addresses and ids."""
    client = Conversation(LMTPFactory(backend=backend, reactor=FakeReactor()))
    client.say("LHLO x", "MAIL FROM:<a@x>", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA")
    return [" ".join((*reply.split()[:2], *reply.split()[4:])) for reply in client.say("hello", ".")]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    operators_code.calls.clear()
    operators_code.begun.clear()
    operators_code.go_on.clear()
    yield
    operators_code.go_on.set()


# Functions


def test_a_function_is_called_for_each_recipient() -> None:
    assert replies(build("python:operators_code:plain"), "b@x", "c@x") == ["250 2.0.0 kept"] * 2
    assert operators_code.calls == [(b"hello\r\n", "b@x"), (b"hello\r\n", "c@x")]


@pytest.mark.parametrize(
    ("attribute", "reply"),
    [
        ("coroutine", "250 2.0.0 awaited"),
        ("deferred", "250 2.0.0 deferred"),
        ("refusing", "554 5.2.2 full"),
        ("callable_object", "250 2.0.0 called"),
        ("callable_coroutine", "250 2.0.0 awaited"),
        ("Callable.inner", "250 2.0.0 kept"),
    ],
)
def test_what_it_gives_is_the_outcome(attribute: str, reply: str) -> None:
    assert replies(build(f"python:operators_code:{attribute}"), "b@x") == [reply]


def test_a_function_that_does_not_tell_its_parameters_is_believed() -> None:
    """Some that are written in C do not."""
    build("python:operators_code:builtin")


# Factories and classes


def test_a_delivery_factory_is_the_backend() -> None:
    assert build("python:operators_code:factory") is operators_code.factory


def test_a_class_of_factories_is_called_without_arguments() -> None:
    assert isinstance(build("python:operators_code:Own"), operators_code.Own)


def test_a_class_of_functions_too() -> None:
    assert replies(build("python:operators_code:nested"), "b@x") == ["250 2.0.0 called"]


def test_a_class_of_deliveries_is_called_for_each_message() -> None:
    backend = build("python:operators_code:Each")
    assert replies(backend, "b@x", "c@x") == ["250 2.0.0 number 1"] * 2
    assert replies(backend, "b@x") == ["250 2.0.0 number 2"]


def test_a_delivery_of_twisted_mail_is_adapted() -> None:
    assert callable(build("python:operators_code:delivery_of_twisted").getDelivery)


# What is wrong


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("", "it needs package.module:attribute, not ''"),
        ("operators_code", "it needs package.module:attribute, not 'operators_code'"),
        ("operators_code:", "it needs package.module:attribute"),
        (":plain", "it needs package.module:attribute"),
        ("operators_cod:plain", "cannot import operators_cod: No module named 'operators_cod'"),
        ("operators_code.x:plain", "cannot import operators_code.x: No module named"),
        (".x:plain", "cannot import .x: TypeError: "),
        ("operators_code:plane", "operators_code:plane: module 'operators_code' has no attribute 'plane'"),
        ("operators_code:plain.x", "has no attribute 'x'"),
        ("operators_code:number", "operators_code:number is neither a function nor a delivery factory: "),
        ("operators_code:too_many", "is not a function of a message and a recipient: missing a required argument"),
        ("operators_code:too_few", "is not a function of a message and a recipient: too many positional"),
        ("operators_code:WithoutSelf", "RuntimeError: no connection to the database"),
        ("operators_code:plain,threads=maybe", "threads is yes or no, not 'maybe'"),
        ("operators_code:factory,threads=yes", "threads=yes is for functions, and operators_code:factory is "),
        (
            "operators_code:coroutine,threads=yes",
            "threads=yes is for functions that block, and operators_code:coroutine",
        ),
    ],
)
def test_what_is_wrong_is_one_line_when_it_is_built(argument: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^python: [^\n]+$") as refused:
        build(f"python:{argument}")
    assert reason in str(refused.value)


def test_a_module_that_fails_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "module_that_fails.py").write_text("1 / 0")
    with pytest.raises(ValueError, match="cannot import module_that_fails: ZeroDivisionError: division by zero"):
        build("python:module_that_fails:x")


# Where modules come from


def test_the_current_directory_is_looked_in_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stray file there takes the place of nothing that is installed, and a daemon may leave it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "module_of_here.py").write_text("def deliver(message, recipient): return 'here'")
    (tmp_path / "operators_code.py").write_text("1 / 0")
    monkeypatch.delitem(sys.modules, "operators_code")
    assert replies(build("python:module_of_here:deliver"), "b@x") == ["250 2.0.0 here"]
    assert sys.path[-1] == str(tmp_path)
    build("python:operators_code:plain")
    assert sys.path.count(str(tmp_path)) == 1


# Threads


async def outcomes(backend: Any, message: ReceivedMessage) -> list[Any]:
    return await gatherResults([maybeDeferred(lambda one=one: one) for one in backend.deliver(message)])


@pytest_twisted.ensureDeferred
async def test_with_threads_it_runs_in_one(receive: Receive, pool: ThreadPool) -> None:
    backend = build("python:operators_code:telling_its_thread,threads=yes", pool)
    (there,) = await outcomes(backend, receive("a@x"))
    assert int(there) != threading.get_ident()


@pytest_twisted.ensureDeferred
async def test_without_it_does_not(receive: Receive, pool: ThreadPool) -> None:
    backend = build("python:operators_code:telling_its_thread,threads=no", pool)
    assert await outcomes(backend, receive("a@x")) == [str(threading.get_ident())]


@pytest_twisted.ensureDeferred
async def test_a_refusal_from_a_thread_is_a_refusal(receive: Receive, pool: ThreadPool) -> None:
    (outcome,) = build("python:operators_code:refusing,threads=yes", pool).deliver(receive("a@x"))
    with pytest.raises(PermanentFailure, match="full"):
        await outcome


@pytest.mark.parametrize("attribute", ["deferred", "callable_coroutine"])
@pytest_twisted.ensureDeferred
async def test_what_has_to_be_waited_for_is_no_outcome_of_a_thread(
    receive: Receive, pool: ThreadPool, attribute: str
) -> None:
    (outcome,) = build(f"python:operators_code:{attribute},threads=yes", pool).deliver(receive("a@x"))
    with pytest.raises(TypeError, match="gives its outcome"):
        await outcome


@pytest_twisted.ensureDeferred
async def test_it_leaves_half_of_the_threads_to_others(receive: Receive, pool: ThreadPool) -> None:
    """The same pool writes files, also those of a Maildir."""
    backend = build("python:operators_code:waiting,threads=yes", pool)
    message = receive(*(f"{number}@x" for number in range(20)))
    waiting = backend.deliver(message)
    free: Deferred[None] = Deferred()
    pool.callInThread(lambda: (operators_code.begun.wait(60), reactor.callFromThread(free.callback, None)))  # type: ignore[attr-defined]
    await free
    assert len(waiting) == 20
    assert pool.workers <= pool.max // 2 + 1
    operators_code.go_on.set()
    assert await gatherResults(waiting) == [None] * 20


def test_what_was_cancelled_before_a_thread_was_free_is_not_called(receive: Receive) -> None:
    free = FakePool(immediate=False)
    free.max = 2  # type: ignore[attr-defined]  # of ThreadPool
    backend = BackendContext(FakeReactor(), free, "mx").build(  # type: ignore[arg-type]
        "python:operators_code:plain,threads=yes"
    )
    (outcome,) = backend.deliver(receive("a@x"))  # type: ignore[attr-defined]  # its own delivery
    outcome.addErrback(lambda failure: failure.trap(CancelledError))
    outcome.cancel()
    assert free.run() == 1
    assert operators_code.calls == []


@pytest_twisted.ensureDeferred
async def test_what_is_cancelled_while_it_runs_is_not_answered_again(receive: Receive, pool: ThreadPool) -> None:
    backend = build("python:operators_code:waiting,threads=yes", pool)
    (outcome,) = backend.deliver(receive("a@x"))
    begun: Deferred[None] = Deferred()
    pool.callInThread(lambda: (operators_code.begun.wait(60), reactor.callFromThread(begun.callback, None)))  # type: ignore[attr-defined]
    await begun
    outcome.cancel()
    with pytest.raises(CancelledError):
        await outcome
    operators_code.go_on.set()
    over: Deferred[None] = Deferred()
    pool.callInThreadWithCallback(lambda *_: reactor.callFromThread(over.callback, None), lambda: None)  # type: ignore[attr-defined]
    await over
