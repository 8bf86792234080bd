"""Settings, and what all sessions of a server share."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from dialogue import HOSTNAME, Client, codes, connected, server
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from lmtp_twisted import BareNewlines, LMTPFactory, LMTPProtocol, Settings
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries, fake_spool
from lmtp_twisted.threads import default_pool, make_pool


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hostname", ""),
        ("hostname", "a b"),
        ("hostname", "a\r\nb"),
        ("hostname", "bücher.example"),
        ("hostname", "x" * 256),
        ("banner", "a\r\nb"),
        ("banner", "grüezi"),
        ("banner", "x" * 256),
        ("size_limit", -1),
        ("drain_factor", -1),
        ("max_recipients", 0),
        ("max_recipients", -5),
        ("max_sessions", 0),
        ("max_bad_commands", 0),
        ("max_received", 0),
        ("idle_timeout", 0),
        ("idle_timeout", -1.0),
        ("delivery_timeout", 0),
        ("write_timeout", 0),
        ("greeting_delay", -1),
        ("disabled", ["QUIT"]),
        ("disabled", "nonsense"),
        ("enabled", ["PIPELINING"]),
        ("enabled", "nonsense"),
    ],
)
def test_a_setting_that_makes_no_sense_is_an_error_that_names_it(name: str, value: Any) -> None:
    """Where it is made, not in the first session."""
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hostname", "x" * 255),
        ("banner", ""),
        ("banner", "x" * 255),
        ("size_limit", 0),
        ("drain_factor", 0),
        ("max_recipients", 1),
        ("idle_timeout", 0.001),
        ("greeting_delay", 0),
        ("bare_newlines", BareNewlines.REJECT),
        ("disabled", ()),
        ("enabled", {"dsn", "mt-priority"}),
    ],
)
def test_the_edges_of_the_settings_are_allowed(name: str, value: Any) -> None:
    """And work."""
    client = connected(**{name: value}) if name != "hostname" else Client(server(hostname=value))
    assert codes(client.greeting) == ["220"]
    assert client.say("LHLO c")[-1].startswith("250 ")


def test_settings_are_frozen_and_given_by_name() -> None:
    """All sessions share them."""
    settings = Settings(hostname="a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.hostname = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings("a")  # type: ignore[misc]
    assert attrs.evolve(settings, hostname="b").hostname == "b"


def test_the_defaults_are_as_the_rfcs_and_postfix_would_have_them() -> None:
    """RFC 5321 §4.5.3: nothing below its minimum, and a delivery ends before its client gives up."""
    settings = Settings()
    assert settings.max_recipients == 1000
    assert settings.idle_timeout == 300
    assert settings.delivery_timeout == 540
    assert settings.max_bad_commands == 10
    assert settings.max_received == 100
    assert settings.drain_factor == 10
    assert settings.size_limit == 50 * 1024 * 1024
    assert settings.greeting_delay == 0
    assert settings.bare_newlines is BareNewlines.KEEP
    assert not settings.lenient_newlines
    assert settings.disabled == settings.enabled == frozenset()
    assert settings.hostname


def test_without_settings_the_defaults_are_used() -> None:
    """The whole of a server is one line."""
    reactor = FakeReactor()
    factory = LMTPFactory(deliver=lambda message, recipient: None, reactor=reactor, spool=fake_spool(reactor))
    assert factory.settings == Settings()


def test_without_a_reactor_it_is_the_global_one() -> None:
    """As it is in Twisted."""
    from twisted.internet import reactor

    factory = LMTPFactory(deliver=lambda message, recipient: None)
    assert factory.reactor is reactor
    assert factory.spool.reactor is reactor


def test_a_reactor_has_one_pool_for_all_factories() -> None:
    """Threads are bounded for the process, not for each port."""
    one, two = Clock(), Clock()
    pools = [default_pool(one), default_pool(one), default_pool(two)]
    assert pools[0] is pools[1]
    assert pools[0] is not pools[2]
    for pool in pools[1:]:
        pool.stop()


def test_the_pool_is_stopped_after_the_reactor() -> None:
    """A reactor that shuts down waits for no thread of ours."""

    class Reactor(Clock):
        def __init__(self) -> None:
            super().__init__()
            self.triggers: list[tuple[Any, ...]] = []

        def addSystemEventTrigger(self, *trigger: Any) -> None:
            self.triggers.append(trigger)

    reactor = Reactor()
    pool = default_pool(reactor)
    ((phase, event, stop),) = reactor.triggers
    assert (phase, event) == ("after", "shutdown")
    stop()
    assert pool.joined


def test_a_pool_is_bounded_and_named() -> None:
    """Its threads show in a debugger."""
    pool = make_pool(3)
    try:
        assert (pool.min, pool.max, pool.name) == (0, 3, "lmtp")
        assert pool.started
    finally:
        pool.stop()


def test_a_factory_is_a_protocol_factory() -> None:
    """For any endpoint."""
    factory = server()
    assert verifyObject(IProtocolFactory, factory)
    assert not factory.noisy
    assert isinstance(factory.buildProtocol(None), LMTPProtocol)


def test_the_sessions_of_a_factory_are_those_of_now() -> None:
    """A connection counts from its beginning to its end."""
    factory = server()
    assert factory.sessions == set()
    one, two = Client(factory), Client(factory)
    assert factory.sessions == {one.protocol, two.protocol}
    one.say("QUIT")
    assert one.protocol in factory.sessions
    one.lose()
    assert factory.sessions == {two.protocol}


def test_a_subclass_may_add_a_command_of_its_own_kind() -> None:
    """By overriding its method."""

    class Protocol(LMTPProtocol):
        def do_VRFY(self, argument: bytes) -> None:
            self.send(b"252 2.1.5 I know %b\r\n" % argument)

    class Factory(LMTPFactory):
        protocol = Protocol  # type: ignore[assignment]

    reactor = FakeReactor()
    factory = Factory(
        ScriptedDeliveries(), settings=Settings(hostname=HOSTNAME), reactor=reactor, spool=fake_spool(reactor)
    )
    assert Client(factory).say("VRFY someone") == ["252 2.1.5 I know someone"]


def test_sessions_of_one_factory_do_not_disturb_each_other() -> None:
    """Each has a state of its own."""
    deliveries = ScriptedDeliveries()
    factory = server(deliveries)
    clients = [Client(factory) for _ in range(3)]
    for lines in (("LHLO c",), ("MAIL FROM:<a@x>",), ("RCPT TO:<b@x>",), ("DATA",), ("x",), (".",)):
        for number, client in enumerate(clients):
            client.say(*(line.replace("x", f"x{number}") if line == "x" else line for line in lines))
    assert [received.read() for received in deliveries.messages] == [b"x0\r\n", b"x1\r\n", b"x2\r\n"]
