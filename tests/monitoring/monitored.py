"""A server in memory that is monitored, and a client that speaks to it."""

from __future__ import annotations

from typing import Any

import attrs

from lmtp_twisted import LMTPFactory, Settings
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon.members import Alone
from lmtp_twisted.daemon.monitoring.figures import Counts
from lmtp_twisted.daemon.monitoring.monitor import Monitor
from lmtp_twisted.spool import Spool
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor, ScriptedDeliveries, fake_spool

#: Where the clock begins.
BEGIN = 1_764_012_345


@attrs.define(eq=False)
class Monitored:
    """
    :ivar factory: the server.
    :ivar counts: what it counts.
    :ivar monitor: and all else.
    :ivar members: who is asked.
    """

    reactor: FakeReactor
    context: BackendContext
    spool: Spool
    factory: LMTPFactory
    counts: Counts
    monitor: Monitor
    members: Alone

    @property
    def figures(self) -> Any:
        """As they are now."""
        return self.monitor.answers()["figures"](None)

    @property
    def events(self) -> Any:
        """As they are now."""
        return self.monitor.answers()["events"](None)

    @property
    def sessions(self) -> Any:
        """As they are now."""
        return self.monitor.answers()["sessions"](None)

    def client(self) -> Conversation:
        """One that has said LHLO."""
        client = Conversation(self.factory)
        client.say("LHLO client.example")
        return client

    def send(self, *recipients: str, content: str = "hello", sender: str = "a@example.net") -> list[str]:
        """Send a message, and give the replies to its content."""
        client = self.client()
        client.say(f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients))
        if client.say("DATA")[0].startswith("354"):
            return client.say(content, ".")
        return []


def monitored(backend: Any = None, *, label: str = "store", **options: Any) -> Monitored:
    """A server with a backend that has a label. Options are settings, but for those of the factory."""
    reactor = FakeReactor()
    reactor.advance(BEGIN)
    backend = ScriptedDeliveries() if backend is None else backend
    pool: Any = FakePool()
    context = BackendContext(reactor=reactor, pool=pool, hostname="mx.example.org")
    context.label(backend, label)
    spool = fake_spool(reactor)
    made: list[LMTPFactory] = []
    monitor = Monitor(lambda: (session for factory in made for session in factory.sessions), reactor.seconds)
    counts = monitor.watch(context, spool)
    of_factory = {name: options.pop(name) for name in ("policy", "portal") if name in options}
    factory = LMTPFactory(
        backend,
        settings=Settings(hostname="mx.example.org", **options),
        reactor=reactor,
        spool=spool,
        observers=[counts],
        command_counts=counts.commands,
        **of_factory,
    )
    made.append(factory)
    return Monitored(reactor, context, spool, factory, counts, monitor, Alone(monitor.answers()))
