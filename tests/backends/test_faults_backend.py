"""``faults:``: what goes wrong, for whom, and how often."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from lmtp_twisted import LMTPFactory, Reply, Settings
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.faults import Delay, Drop, Faults, Hang, Place, Refuse, Stagger
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor, RecordingObserver, ScriptedDeliveries


class Shaky:
    """
    A server with faults, and a client of it.

    :param description: of the faults, what follows ``faults:``; what is not at fault goes to ``deliveries``.
    """

    def __init__(self, description: str, deliveries: Any = None) -> None:
        self.reactor = FakeReactor()
        self.deliveries = deliveries or ScriptedDeliveries()
        context = BackendContext(self.reactor, FakePool(), "mx", named={"inner": lambda: self.deliveries})  # type: ignore[arg-type]
        self.observer = RecordingObserver()
        self.backend = context.build(f"faults:{description},then=inner")
        self.factory = LMTPFactory(
            backend=self.backend, reactor=self.reactor, observers=[self.observer], settings=Settings(hostname="mx")
        )
        self.connect()

    def connect(self) -> None:
        self.client = Conversation(self.factory)
        self.client.say("LHLO client")

    def send(self, *recipients: str) -> list[str]:
        """A message: the first nine characters of what is said from MAIL on, but for the good ones before DATA."""
        if self.client.is_closed:
            self.connect()
        said = self.client.say("MAIL FROM:<s@x>", *(f"RCPT TO:<{name}@x>" for name in recipients))
        said = [line for line in said if not line.startswith("250 2.1")]
        if self.client.is_closed or self.client.say("DATA")[-1][:3] != "354":
            self.client.say("RSET")
            return [line[:9] for line in said]
        return [line[:9] for line in [*said, *self.client.say("Subject: hi", "", ".")]]

    def after(self, seconds: float) -> list[str]:
        """What comes while time passes."""
        self.reactor.advance(seconds)
        return [line[:9] for line in self.client.read()]

    @property
    def delivered(self) -> list[str]:
        """For each message that came through, the local parts of its recipients."""
        return ["".join(to.address.local for to in message.recipients) for message in self.deliveries.messages]


OK, DEFERRED, REFUSED = "250 2.0.0", "451 4.3.0", "550 5.3.0"


def test_it_provides_what_it_says() -> None:
    faults = Faults(ScriptedDeliveries(), Refuse(), reactor=FakeReactor())
    assert verifyObject(ILMTPDeliveryFactory, faults)
    assert verifyObject(ILMTPDelivery, faults.getDelivery(None))  # type: ignore[arg-type]  # it does not look


def test_every_nth_recipient_is_at_fault_across_messages_and_sessions() -> None:
    server = Shaky("defer,every=3")
    assert server.send(*"abcd") == [OK, OK, DEFERRED, OK]
    server.client.say("QUIT")
    assert server.send(*"ab") == [OK, DEFERRED]
    assert server.delivered == ["abd", "a"]


def test_every_nth_message() -> None:
    server = Shaky("defer,every=2,of=messages")
    assert [server.send(*"ab") for _ in range(4)] == [[OK, OK], [DEFERRED] * 2] * 2
    assert server.delivered == ["ab", "ab"]


def test_a_fault_may_be_over_after_some_times() -> None:
    server = Shaky("refuse,times=2")
    assert [server.send("a") for _ in range(4)] == [[REFUSED], [REFUSED], [OK], [OK]]


def test_a_pattern_says_whose() -> None:
    """As routes have it; only those who match are counted."""
    server = Shaky("refuse,to=b*@x,every=2")
    assert server.send("a", "bob", "c", "ben", "bill") == [OK, OK, OK, REFUSED, OK]


def test_a_refusal_has_words_of_its_own() -> None:
    server = Shaky("refuse,code=452,enhanced=4.2.2,text=Full, they say, again")
    server.client.say("MAIL FROM:<s@x>", "RCPT TO:<a@x>", "DATA")
    (reply,) = server.client.say(".")
    assert reply.startswith("452 4.2.2 <a@x> ")
    assert reply.endswith(" Full, they say, again")


@pytest.mark.parametrize(("at", "calls"), [("mail", ["getDelivery", "aborted"]), ("rcpt", ["getDelivery", "aborted"])])
def test_it_refuses_at_the_place_that_is_named(at: str, calls: list[str]) -> None:
    """The backend behind it does not hear of what is refused before the dot."""
    server = Shaky(f"refuse,at={at}")
    assert server.send("a")[0] == REFUSED
    names = [name for name, _ in server.deliveries.calls if name != "validateFrom"]
    assert names == calls


def test_all_but_the_nth_are_delivered_at_rcpt() -> None:
    server = Shaky("defer,at=rcpt,every=2")
    assert server.send(*"abcd") == [DEFERRED, DEFERRED, OK, OK]
    assert server.delivered == ["ac"]


def test_what_is_refused_may_be_delivered_all_the_same() -> None:
    """RFC 1047: the client sends it again, and it is there twice."""
    server = Shaky("defer,delivered=yes,times=1")
    assert server.send(*"ab") == [DEFERRED, OK]
    assert server.send("a") == [OK]
    assert server.delivered == ["ab", "a"]


def test_a_message_of_which_nothing_is_left_is_aborted() -> None:
    server = Shaky("refuse")
    assert server.send(*"ab") == [REFUSED] * 2
    assert server.deliveries.calls[-1][0] == "aborted"


@pytest.mark.parametrize("replies", [0, 1, 2, 3])
def test_the_connection_is_dropped_after_some_replies(replies: int) -> None:
    """And no more are delivered than were answered; where there are fewer recipients it is not dropped."""
    server = Shaky(f"drop,replies={replies}")
    assert server.send(*"abc") == [OK] * replies
    assert server.client.is_closed
    assert server.delivered == ["abc"[:replies]] * bool(replies)
    assert server.send(*"ab") == [OK] * min(replies, 2)
    assert server.client.is_closed is (replies <= 2)


def test_all_may_be_delivered_before_the_connection_is_dropped() -> None:
    slow: Deferred[None] = Deferred()
    server = Shaky("drop,replies=1,delivered=yes", ScriptedDeliveries({"c@x": slow}))
    assert server.send(*"abc") == [OK]
    assert not server.client.is_closed
    slow.callback(None)
    assert server.client.is_closed
    assert server.delivered == ["abc"]


def test_it_is_dropped_in_the_place_of_the_first_at_fault() -> None:
    server = Shaky("drop,to=c@x")
    assert server.send(*"abcd") == [OK, OK]
    assert server.client.is_closed
    assert server.delivered == ["ab"]
    assert server.send(*"abd") == [OK] * 3


@pytest.mark.parametrize("at", ["mail", "rcpt"])
def test_it_is_dropped_at_a_command(at: str) -> None:
    server = Shaky(f"drop,at={at},times=1,reset=yes")
    assert server.send("a") == []
    assert server.client.is_closed
    server.client.lose()
    assert server.send("a") == [OK]


@pytest.mark.parametrize(("at", "before"), [("mail", b""), ("rcpt", b"250 2.1.0 Sender OK\r\n"), ("dot", b"")])
def test_it_is_dropped_in_the_middle_of_a_reply(at: str, before: bytes) -> None:
    """What is there of it is the beginning of a good one. To the log it was none."""
    server = Shaky(f"drop,at={at},octets=7")
    if at == "dot":
        server.client.say("MAIL FROM:<s@x>", "RCPT TO:<a@x>", "DATA")
        server.client.protocol.dataReceived(b".\r\n")
        assert server.observer.events[-1].outcomes[0].reply.code == 451
    else:
        server.client.protocol.dataReceived(b"MAIL FROM:<s@x>\r\nRCPT TO:<a@x>\r\n")
    assert server.client.transport.value() == before + {"mail": b"250 2.1", "rcpt": b"250 2.1", "dot": b"250 2.0"}[at]
    assert server.client.is_closed
    assert server.delivered == []


def test_a_fault_that_hangs_is_answered_by_the_time_limit() -> None:
    server = Shaky("hang,to=b@x")
    assert server.send(*"abc") == [OK]
    assert server.after(539.0) == []
    assert server.after(1.0) == ["451 4.4.7", OK]
    assert server.delivered == ["ac"]


@pytest.mark.parametrize("at", ["mail", "rcpt"])
def test_it_hangs_at_a_command(at: str) -> None:
    server = Shaky(f"hang,at={at}")
    assert server.client.say("MAIL FROM:<s@x>", "RCPT TO:<a@x>") == ["250 2.1.0 Sender OK"] * (at == "rcpt")
    assert server.after(540.0)[0] == "451 4.4.7"


def test_a_hang_of_what_was_delivered() -> None:
    server = Shaky("hang,delivered=yes")
    assert server.send("a") == []
    assert server.delivered == ["a"]
    server.client.lose()


def test_a_delay_holds_back_the_answer_and_all_behind_it() -> None:
    server = Shaky("delay,seconds=2,to=b@x")
    assert server.send(*"abc") == [OK]
    assert server.delivered == ["abc"]
    assert server.after(1.9) == []
    assert server.after(0.1) == [OK, OK]


def test_delays_grow_up_to_a_bound() -> None:
    server = Shaky("delay,seconds=1,grow=1.5,most=3")
    waits = []
    for _ in range(4):
        assert server.send("a") == []
        waits.append(0.0)
        while not server.after(0.5):
            waits[-1] += 0.5
    assert waits == [0.5, 2.0, 2.5, 2.5]


def test_random_delays_are_those_of_the_seed() -> None:
    def delays(seed: int) -> list[float]:
        delay = Delay(1.0, up_to=5.0, seed=seed)
        return [delay.next() for _ in range(10)]

    assert delays(7) == delays(7) != delays(8)
    assert all(1.0 <= seconds <= 5.0 for seconds in delays(7))
    server = Shaky("delay,seconds=1-5,seed=7")
    assert server.send("a") == []
    assert server.after(delays(7)[0]) == [OK]


@pytest.mark.parametrize("at", ["mail", "rcpt"])
def test_a_delay_at_a_command(at: str) -> None:
    server = Shaky(f"delay,at={at},seconds=3", ScriptedDeliveries(recipients={"a@x": "Well"}))
    assert len(server.client.say("MAIL FROM:<s@x>", "RCPT TO:<a@x>")) == (at == "rcpt")
    assert server.after(2.9) == []
    assert server.after(0.1)[-1] == "250 2.1.5"


def test_recipients_are_done_with_one_after_the_other() -> None:
    server = Shaky("stagger,seconds=1")
    assert server.send(*"abc") == []
    assert [server.after(1.0) for _ in range(3)] == [[OK]] * 3


def test_what_is_done_in_reverse_is_answered_at_the_end() -> None:
    """RFC 2033 §4.2: replies are in RCPT order, whatever comes first."""
    server = Shaky("stagger,seconds=1,order=reversed")
    assert server.send(*"abc") == []
    assert [server.after(1.0) for _ in range(3)] == [[], [], [OK] * 3]


def test_a_shuffled_order_is_that_of_the_seed() -> None:
    server = Shaky("stagger,seconds=1,order=shuffled,seed=3")
    assert server.send(*"abcde") == []
    assert [reply for _ in range(5) for reply in server.after(1.0)] == [OK] * 5


def test_a_client_that_is_gone_is_not_waited_for() -> None:
    slow: Deferred[None] = Deferred()
    for description in ("delay", "stagger", "hang,delivered=yes", "drop,delivered=yes"):
        server = Shaky(description, ScriptedDeliveries({"a@x": slow}))
        assert server.send("a") == []
        server.client.lose()
        assert not server.reactor.getDelayedCalls()
    assert slow.called


def test_the_outcomes_of_the_backend_are_kept() -> None:
    refusing = ScriptedDeliveries({"b@x": Reply(552, "5.2.2", "Full")})
    assert Shaky("defer,to=a@x", refusing).send(*"abc") == [DEFERRED, "552 5.2.2", OK]
    server = Shaky("delay", refusing)
    assert server.send(*"abc") == []
    assert server.after(1.0) == [OK, "552 5.2.2", OK]


def test_faults_stand_before_each_other() -> None:
    server = Shaky("defer,to=a@x,then=faults:refuse,to=b@x,then=faults:drop,to=d@x")
    assert server.send(*"abcde") == [DEFERRED, REFUSED, OK]
    assert server.client.is_closed
    assert server.delivered == ["c"]


def test_without_a_backend_behind_it_messages_are_kept_in_memory() -> None:
    context = BackendContext(FakeReactor(), FakePool(), "mx")  # type: ignore[arg-type]
    assert isinstance(context.build("faults:defer,every=2"), Faults)
    assert isinstance(context.build("faults:defer,then=memory:,keep=5"), Faults)


def test_vrfy_goes_to_the_backend() -> None:
    server = Shaky("refuse,at=rcpt")
    assert server.client.say("VRFY <a@x>")[0].startswith("252 ")


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("", "'' is no fault"),
        ("refuze", "did you mean refuse"),
        ("refuse,code=250", "code is of class 4 or 5"),
        ("refuse,code=421", "not 421"),
        ("refuse,code=550,enhanced=4.1.1", "enhanced status code of class 5"),
        ("defer,every=0", "every is a whole number from 1"),
        ("defer,every=x", "not 'x'"),
        ("defer,every=2,every=3", "every is given twice"),
        ("defer,evry=2", "defer has no option 'evry'"),
        ("defer,seconds=2", "defer has no option 'seconds'"),
        ("defer,at=data", "at is dot, rcpt or mail, not 'data'"),
        ("defer,to=a b", "not a pattern of recipients"),
        ("defer,at=mail,to=a@x", "at MAIL no recipient is known yet"),
        ("stagger,at=rcpt", "at the dot only"),
        ("defer,at=rcpt,delivered=yes", "at the dot only"),
        ("drop,at=rcpt,replies=2", "after the dot only"),
        ("delay,seconds=soon", "seconds is a number of seconds, not 'soon'"),
        ("delay,seconds=-1", "not '-1'"),
        ("stagger,order=random", "order is given, reversed or shuffled"),
        ("defer,then=maildir", "lacks a colon"),
    ],
)
def test_what_is_wrong_is_said(description: str, reason: str) -> None:
    context = BackendContext(FakeReactor(), FakePool(), "mx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=reason):
        context.build(f"faults:{description}")


def test_code_makes_them_too() -> None:
    for kind in (Refuse(), Hang(), Drop(), Delay(), Stagger()):
        assert Faults(ScriptedDeliveries(), kind)
    with pytest.raises(ValueError, match="every"):
        Faults(ScriptedDeliveries(), Refuse(), every=0)
    with pytest.raises(ValueError, match="dot only"):
        Faults(ScriptedDeliveries(), Stagger(), at=Place.RCPT)
