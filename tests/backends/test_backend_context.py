"""What backends are given, and how they end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.null import NullBackend
from lmtp_twisted.backends.plugin import BackendPlugin
from lmtp_twisted.testing import FakePool, FakeReactor


class Wrapping:
    """A backend around another."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def getDelivery(self, session: object) -> Any:
        return self.inner.getDelivery(session)


def wrap(context: BackendContext, argument: str) -> Any:
    return Wrapping(context.build(argument))


class Refusal:
    """``raise:TYPE`` raises what the table says."""

    ERRORS = {  # noqa: RUF012  # never changed
        "value": ValueError("it is wrong\n  in two lines"),
        "os": OSError(2, "No such file or directory"),
        "type": TypeError("a defect"),
        "empty": ValueError(),
    }


def fail(context: BackendContext, argument: str) -> Any:
    raise Refusal.ERRORS[argument]


def make_nothing(context: BackendContext, argument: str) -> Any:
    return None


@pytest.fixture
def context() -> BackendContext:
    plugins = [
        BackendPlugin("null", "", "lmtp_twisted.backends.null.from_description"),
        *(BackendPlugin(name, "", f"{__name__}.{name}", "X") for name in ("wrap", "fail", "make_nothing")),
        BackendPlugin("typo", "", "lmtp_twisted.backends.nul.from_description"),
    ]
    return BackendContext(
        FakeReactor(),
        FakePool(),  # type: ignore[arg-type]  # a pool as far as it goes
        "mx.example.org",
        plugins={plugin.backendType: plugin for plugin in plugins},
    )


def test_it_finds_the_plugins_that_there_are() -> None:
    assert "null" in BackendContext(FakeReactor(), FakePool(), "mx.example.org").plugins  # type: ignore[arg-type]


def test_it_builds_a_backend_from_its_description(context: BackendContext) -> None:
    assert isinstance(context.build("null:"), NullBackend)


def test_descriptions_may_hold_descriptions(context: BackendContext) -> None:
    built: Any = context.build("wrap:wrap:null:")
    assert isinstance(built.inner.inner, NullBackend)


@pytest.mark.parametrize(
    ("description", "text"),
    [
        ("fail:value", "fail: it is wrong in two lines"),
        ("fail:os", "fail: [Errno 2] No such file or directory"),
        ("fail:type", "fail: TypeError: a defect"),
        ("fail:empty", "fail: ValueError: "),
        ("wrap:fail:value", "wrap: fail: it is wrong in two lines"),
        ("make_nothing:x", "make_nothing: its plugin made None, which gives no deliveries"),
    ],
)
def test_whatever_goes_wrong_is_one_line_that_names_the_type(
    context: BackendContext, description: str, text: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        context.build(description)


def test_a_plugin_whose_maker_is_missing_is_one_line_too(context: BackendContext) -> None:
    with pytest.raises(ValueError, match=r"^typo: .*nul"):
        context.build("typo:")


def test_an_unknown_type_is_one_line(context: BackendContext) -> None:
    with pytest.raises(ValueError, match="names no known backend"):
        context.build("maildir:/srv")


# Shutting down


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


def test_backends_are_shut_down_the_latest_first_each_after_the_one_before(context: BackendContext) -> None:
    """One that was made later may be used by none that was made before, but not the other way round."""
    called: list[str] = []
    second: Deferred[None] = Deferred()
    context.add_shutdown(lambda: called.append("first"))
    context.add_shutdown(lambda: (called.append("second"), second)[1])
    down = context.shut_down()
    assert called == ["second"]
    assert not down.called
    second.callback(None)
    assert called == ["second", "first"]
    assert down.called


def test_one_that_fails_does_not_keep_the_others_from_ending(context: BackendContext, logged: list[LogEvent]) -> None:
    called: list[str] = []

    async def coroutine() -> None:
        called.append("coroutine")
        raise KeyError("later")

    context.add_shutdown(lambda: called.append("first"))
    context.add_shutdown(coroutine)
    context.add_shutdown(lambda: 1 / 0)
    assert context.shut_down().called
    assert called == ["coroutine", "first"]
    assert [event["log_failure"].type for event in logged] == [ZeroDivisionError, KeyError]


def test_each_is_shut_down_once(context: BackendContext) -> None:
    called: list[str] = []
    context.add_shutdown(lambda: called.append("once"))
    assert context.shut_down().called
    assert context.shut_down().called
    assert called == ["once"]


@pytest.mark.parametrize(
    "description",
    [
        "pipe:./program",
        "pipe:cat,directory=mail",
        "http:https://app.example/mail,secret_file=secret",
        "amqp:amqp://user@broker.example/,queue=mail,password_file=secret",
        "lmtp:tcp:store.example:24,user=relay,password_file=secret",
    ],
)
def test_relative_paths_in_a_description_begin_in_the_directory_of_the_file_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, description: str
) -> None:
    """Also where they are not the backend's argument. A trial, so that nothing is connected to."""
    (tmp_path / "mail").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "secret").write_text("sixteen octets at least\n")
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o700)
    monkeypatch.chdir(tmp_path / "elsewhere")
    context = BackendContext(reactor, FakePool(), "mx.example.org", directory=str(tmp_path), is_trial=True)
    before = reactor.getDelayedCalls()  # type: ignore[attr-defined]  # it is a module to mypy
    assert context.build(description)
    assert reactor.getDelayedCalls() == before  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"(?i)no such file|there is no"):
        context.below(None).build(description)
