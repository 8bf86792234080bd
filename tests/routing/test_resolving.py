"""The client's recipients and the backend's: aliases, subaddresses, a directory, and one reply for each RCPT."""

from __future__ import annotations

from typing import Any

import pytest
from dialogues import content, finals, names, rcpt, session
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, PermanentFailure, TemporaryFailure
from lmtp_twisted.aliases import Aliases
from lmtp_twisted.envelope import DirectoryEntry
from lmtp_twisted.interfaces import IRecipientDirectory
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.routing import Router
from lmtp_twisted.testing import Conversation, FakeReactor, RecordingObserver, ScriptedDeliveries
from lmtp_twisted.wire.addresses import Address

LATER, NO = TemporaryFailure("later"), PermanentFailure("no")


@implementer(IRecipientDirectory)
class Known:
    """A directory in memory; what is callable is called for the answer."""

    def __init__(self, *addresses: str, **answers: Any) -> None:
        self.answers: dict[str, Any] = {address: DirectoryEntry() for address in addresses} | {
            f"{user}@x": answer for user, answer in answers.items()
        }
        self.asked: list[str] = []

    def entryOf(self, address: Address) -> Any:
        self.asked.append(str(address))
        answer = self.answers.get(str(address))
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer


def resolving(backend: Any, aliases: str = "", **options: Any) -> Resolving:
    return Resolving(Resolver(aliases=Aliases.parse(aliases), hostname="mx.example.org", **options), backend)


# Aliases


def test_an_alias_is_delivered_to_its_targets_and_answered_as_the_client_called_it() -> None:
    """RFC 5321 §3.9.1."""
    backend = ScriptedDeliveries()
    client = session(resolving(backend, "all@x: a@x, b@y"))
    assert rcpt(client, "all@x") == ["250 2.1.5"]
    assert content(client) == ["250 2.0.0 <all@x>"]
    assert names(backend) == [["a@x", "b@y"]]


def test_who_needs_no_change_is_handed_on_with_the_message_itself() -> None:
    backend = ScriptedDeliveries()
    client = session(resolving(backend, "all@x: a@x"))
    rcpt(client, "b@x")
    (asked,) = (argument for name, argument in backend.calls if name == "validateTo")
    content(client)
    assert backend.messages[0].recipients == (asked,)
    assert backend.messages[0].recipients[0] is asked


@pytest.mark.parametrize(
    ("a", "b", "reply"),
    [(None, None, "250"), (None, LATER, "451"), (NO, None, "554"), (NO, LATER, "451"), (LATER, NO, "451")],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_the_outcome_of_an_alias_is_the_worst_of_its_targets(a: Any, b: Any, reply: str, is_late: bool) -> None:
    late = {"a@x": Deferred(), "b@x": Deferred()}
    backend = ScriptedDeliveries(late if is_late else {"a@x": a, "b@x": b})
    client = session(resolving(backend, "all@x: a@x, b@x"))
    rcpt(client, "all@x", "c@x")
    replies = content(client)
    if is_late:
        assert replies == []
        for name, outcome in (("b@x", b), ("a@x", a)):
            late[name].callback(outcome) if outcome is None else late[name].errback(outcome)
        replies = finals(client.read())
    assert [line[:3] for line in replies] == [reply, "250"]


@pytest.mark.parametrize(("a", "b", "reply"), [(None, NO, "550"), (NO, LATER, "451"), (None, LATER, "451")])
def test_an_alias_one_of_whose_targets_is_refused_is_refused_with_the_worst(a: Any, b: Any, reply: str) -> None:
    backend = ScriptedDeliveries(recipients={"a@x": a, "b@x": b})
    client = session(resolving(backend, "all@x: a@x, b@x"))
    assert [line[:3] for line in rcpt(client, "all@x", "c@x")] == [reply, "250"]
    assert content(client) == ["250 2.0.0 <c@x>"]
    assert names(backend) == [["c@x"]]


def test_recipients_that_become_the_same_get_one_copy_and_each_its_reply() -> None:
    """RFC 2033 §4.2."""
    backend = ScriptedDeliveries({"b@x": NO})
    client = session(resolving(backend, "one@x: a@x\ntwo@x: A@x\nall@x: a@x, b@x\nthree@x: a@x"))
    rcpt(client, "one@x", "a@x", "all@x", "three@x", "one@x")
    assert content(client) == [
        "250 2.0.0 <one@x>",
        "250 2.0.0 <a@x>",
        "554 5.3.0 <all@x>",
        "250 2.0.0 <three@x>",
        "250 2.0.0 <one@x>",
    ]
    assert names(backend) == [["a@x", "b@x"]]


def test_an_outcome_that_is_shared_comes_later_for_all() -> None:
    slow: Deferred[Any] = Deferred()
    client = session(resolving(ScriptedDeliveries({"a@x": slow}), "one@x: a@x"))
    rcpt(client, "a@x", "one@x", "b@x")
    assert content(client) == []
    slow.errback(LATER)
    assert finals(client.read()) == ["451 4.3.0 <a@x>", "451 4.3.0 <one@x>", "250 2.0.0 <b@x>"]


@pytest.mark.parametrize("lines", ["one@x: a@x", "one@x: a@x, b@x"])
def test_a_lost_connection_cancels_what_is_under_way(lines: str) -> None:
    cancelled: list[int] = []
    slow: Deferred[Any] = Deferred(lambda _: cancelled.append(1))
    client = session(resolving(ScriptedDeliveries({"a@x": slow}), lines))
    rcpt(client, "one@x", "a@x")
    content(client)
    client.lose()
    assert cancelled == [1]


def test_the_original_recipient_is_kept_unless_the_client_has_given_one() -> None:
    """RFC 3461 §5.2.1."""
    backend = ScriptedDeliveries()
    client = session(resolving(backend, "one@x: a@x\ntwo@x: b@x"))
    client.say("RCPT TO:<one@x>", "RCPT TO:<two@x> ORCPT=rfc822;first@y", "RCPT TO:<c@x>")
    content(client)
    originals = [recipient.original for recipient in backend.messages[0].recipients]
    assert [original and original.address for original in originals] == ["one@x", "first@y", None]


def test_the_targets_of_one_message_are_bounded() -> None:
    """RFC 5321 §4.5.3.1.10."""
    text = "\n".join(f"l{n}@x: " + ", ".join(f"u{n}.{m}@x" for m in range(1000)) for n in range(11))
    client = session(resolving(ScriptedDeliveries(), text))
    replies = rcpt(client, *(f"l{n}@x" for n in range(11)), "l0@x", "other@x")
    assert replies == ["250 2.1.5"] * 10 + ["452 4.5.3", "250 2.1.5", "452 4.5.3"]


# What nothing else takes


def test_a_domain_catches_what_no_alias_takes() -> None:
    backend = ScriptedDeliveries()
    client = session(resolving(backend, "@x: info@x\nsales@x: carol@x\n@old: @x"))
    rcpt(client, "anybody@x", "sales@x", "sales@old", "other@y")
    content(client)
    assert names(backend) == [
        [
            "info@x",
            "carol@x",
            "other@y",
        ]
    ]


def test_a_domain_catches_nobody_whom_the_directory_knows() -> None:
    backend = ScriptedDeliveries()
    client = session(resolving(backend, "@x: info@x", directory=Known("alice@x", "info@x")))
    rcpt(client, "alice@x", "typo@x", "info@x")
    content(client)
    assert names(backend) == [["alice@x", "info@x"]]


def test_what_a_domain_leads_to_has_to_exist() -> None:
    client = session(resolving(ScriptedDeliveries(), "@x: info@x\n@old: @x", directory=Known("alice@x")))
    assert rcpt(client, "typo@x", "bob@old", "alice@old") == ["550 5.1.1", "550 5.1.1", "250 2.1.5"]


# Subaddresses (RFC 5233)


@pytest.mark.parametrize(
    ("options", "given", "kept"),
    [
        ({}, "one+lists@x", "a+lists@x"),
        ({}, "fixed+lists@x", "b+own@x"),
        ({}, "exact+lists@x", "c@x"),
        ({}, "other+lists@x", "other+lists@x"),
        ({"keep_detail": False}, "one+lists@x", "a@x"),
        ({"keep_detail": False}, "other+lists@x", "other@x"),
        ({"separator": "-+"}, "one-lists@x", "a-lists@x"),
        ({"separator": ""}, "one+lists@x", "one+lists@x"),
        ({}, "+one@x", "+one@x"),
    ],
)
def test_a_detail_is_kept_or_dropped(options: dict[str, Any], given: str, kept: str) -> None:
    backend = ScriptedDeliveries()
    client = session(resolving(backend, "one@x: a@x\nfixed@x: b+own@x\nexact+lists@x: c@x", **options))
    rcpt(client, given)
    content(client)
    assert names(backend) == [[kept]]


def test_a_separator_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="separator is punctuation"):
        Resolver(separator="a")


# The directory


def test_the_directory_is_asked_for_a_mailbox_in_its_plainest_form() -> None:
    """Lower case, without the detail, with our name where there is no domain."""
    known = Known("alice@x", "root@mx.example.org")
    client = session(resolving(ScriptedDeliveries(), directory=known))
    assert rcpt(client, "Alice+Lists@X", "ROOT") == ["250 2.1.5", "250 2.1.5"]
    assert known.asked == ["alice@x", "root@mx.example.org"]


@pytest.mark.parametrize("answer", [None, lambda: succeed(None)])
def test_who_is_not_in_the_directory_does_not_exist(answer: Any) -> None:
    """RFC 5321 §3.3. The backend is not asked."""
    backend = ScriptedDeliveries()
    client = session(resolving(backend, directory=Known("alice@x", bob=answer)))
    assert rcpt(client, "bob@x", "alice@x") == ["550 5.1.1", "250 2.1.5"]
    assert content(client) == ["250 2.0.0 <alice@x>"]
    assert [str(argument) for name, argument in backend.calls if name == "validateTo"] == ["alice@x"]


@pytest.mark.parametrize(
    "answer",
    [ValueError("broken"), lambda: fail(OSError("down")), "a text", lambda: succeed(7), lambda: fail(KeyError("x"))],
)
def test_a_directory_that_cannot_tell_is_no_refusal_for_good(answer: Any) -> None:
    client = session(resolving(ScriptedDeliveries(), "all@x: alice@x, bob@x", directory=Known("alice@x", bob=answer)))
    assert rcpt(client, "bob@x", "all@x", "alice@x") == ["451 4.3.0", "451 4.3.0", "250 2.1.5"]


@pytest.mark.parametrize("answer", [PermanentFailure("moved", code=551, enhanced="5.1.6"), lambda: fail(LATER)])
def test_a_directory_may_refuse_in_its_own_words(answer: Any) -> None:
    client = session(resolving(ScriptedDeliveries(), directory=Known(bob=answer)))
    assert rcpt(client, "bob@x")[0] in ("551 5.1.6", "451 4.3.0")


def test_the_postmaster_without_a_domain_need_not_be_in_it() -> None:
    """RFC 5321 §4.5.1."""
    client = session(resolving(ScriptedDeliveries(), directory=Known("alice@x")))
    assert rcpt(client, "Postmaster", "postmaster@x", "root") == ["250 2.1.5", "550 5.1.1", "550 5.1.1"]


def test_it_is_asked_about_those_only_whom_it_covers() -> None:
    known = Known("alice@x")
    client = session(resolving(ScriptedDeliveries(), directory=known, covers=["@x", "/^u[0-9]+@/"]))
    assert rcpt(client, "alice@x", "bob@x", "u1@y", "bob@y") == ["250 2.1.5", "550 5.1.1", "550 5.1.1", "250 2.1.5"]
    assert "bob@y" not in known.asked


def test_the_entry_goes_with_the_recipient_through_routes_to_its_backend() -> None:
    entry = DirectoryEntry("a/alice", "1G", None)
    one, two, archive = ScriptedDeliveries(), ScriptedDeliveries(), ScriptedDeliveries()
    directory = Known(alice=entry, bob=DirectoryEntry(backend="archive"), carol=DirectoryEntry(backend="lost"))
    router = Router([("alice@x", one)], two, {"archive": archive})
    client = session(resolving(router, "all@x: alice@x, bob@x", directory=directory))
    assert rcpt(client, "all@x", "carol@x") == ["250 2.1.5", "451 4.3.5"]
    assert content(client) == ["250 2.0.0 <all@x>"]
    assert (names(one), names(two), names(archive)) == ([["alice@x"]], [], [["bob@x"]])
    assert one.messages[0].recipients[0].entry == entry


@pytest.mark.parametrize(
    ("answer", "replies", "served"),
    [
        ({"senders": {"sender@example.net": NO}}, ["550 5.1.1", "250 2.1.5"], "two"),
        ({"recipients": {"alice@x": NO}}, ["550 5.1.1", "250 2.1.5"], "two"),
        ({}, ["250 2.1.5", "250 2.1.5"], "two"),
        ({}, ["250 2.1.5", "550 5.1.1"], "one"),
    ],
)
def test_what_is_found_later_counts_once_the_backend_accepts_it(
    answer: dict[str, Any], replies: list[str], served: str
) -> None:
    """The directory may change between two RCPT for the same recipient."""
    entries = iter([DirectoryEntry(backend="one"), DirectoryEntry(backend="two")])
    one = ScriptedDeliveries(**answer)
    two = ScriptedDeliveries(recipients={"alice@x": NO} if served == "one" else {})
    router = Router([], ScriptedDeliveries(), {"one": one, "two": two})
    client = session(resolving(router, directory=Known(alice=lambda: next(entries), bob=DirectoryEntry(backend="two"))))
    assert rcpt(client, "bob@x", "alice@x", "alice@x") == ["250 2.1.5", *replies]
    accepted = sum(reply.startswith("250") for reply in replies)
    assert content(client) == ["250 2.0.0 <bob@x>"] + ["250 2.0.0 <alice@x>"] * accepted
    expected = ([["alice@x"]], [["bob@x"]]) if served == "one" else ([], [["bob@x", "alice@x"]])
    assert (names(one), names(two)) == expected


def test_a_session_that_is_lost_while_the_directory_is_asked_ends_well() -> None:
    waiting: Deferred[Any] = Deferred()
    backend = ScriptedDeliveries()
    client = session(resolving(backend, directory=Known(alice=lambda: waiting)))
    assert rcpt(client, "alice@x") == []
    client.lose()
    assert backend.calls[-1][0] == "aborted"


# Those around it


class Verifying(ScriptedDeliveries):
    def verifyAddress(self, recipient: Any) -> Any:
        if str(recipient) == "gone@x":
            raise PermanentFailure("gone")
        return f"{recipient} is here"


def test_vrfy_is_answered_from_the_directory_and_the_backend() -> None:
    """RFC 5321 §3.5."""
    directory = Known("alice@x", "bob@x", "gone@x", broken=OSError())
    client = session(resolving(Verifying(), "all@x: alice@x, bob@x\nsome@x: alice@x, gone@x", directory=directory))
    replies = client.say(*(f"VRFY {name}@x" for name in ("alice", "nobody", "broken", "all", "some")))
    assert [reply[:9] for reply in replies] == ["250 2.1.5", "550 5.1.1", "451 4.3.0", "250 2.1.5", "550 5.1.1"]


def test_where_the_backend_cannot_tell_vrfy_is_answered_by_the_directory_alone() -> None:
    """RFC 5321 §3.5. Whom it was not asked about it does not tell of."""
    client = session(resolving(ScriptedDeliveries(), "all@x: a@x, b@x", directory=Known("a@x", "b@x"), covers=["@x"]))
    replies = client.say("VRFY a@x", "VRFY c@x", "VRFY all@x", "VRFY a@y")
    assert [reply[:3] for reply in replies] == ["250", "550", "250", "252"]


def test_a_policy_and_observers_see_the_recipients_of_the_client() -> None:
    policy, observer = ScriptedDeliveries(recipients={"no@x": NO}), RecordingObserver()
    backend = ScriptedDeliveries()
    factory = LMTPFactory(
        policy=policy,
        backend=resolving(backend, "all@x: a@x, b@x\nno@x: a@x"),
        observers=[observer],
        reactor=FakeReactor(),
    )
    client = Conversation(factory)
    client.say("LHLO c", "MAIL FROM:<>")
    assert [line[:3] for line in rcpt(client, "all@x", "no@x")] == ["250", "550"]
    content(client)
    assert [str(argument) for name, argument in policy.calls if name == "validateTo"] == ["all@x", "no@x"]
    (ended,) = (event for event in observer.events if event.name == "transactionEnded")
    assert [str(outcome.recipient) for outcome in ended.outcomes] == ["all@x"]


def test_a_reset_aborts_the_backend() -> None:
    backend = ScriptedDeliveries()
    client = session(resolving(backend, "one@x: a@x"))
    rcpt(client, "one@x")
    client.say("RSET")
    assert backend.calls[-1] == ("aborted", "RSET")


def test_a_backend_that_streams_still_does() -> None:
    """It reads the content once, for all whom the client's recipients stand for."""
    read: list[bytes] = []
    there: list[str] = []

    async def deliver(message: Any) -> list[None]:
        there.extend(map(str, message.recipients))
        async for chunk in message.chunks():
            read.append(chunk)
        return [None] * len(message.recipients)

    class Streaming(ScriptedDeliveries):
        def streams(self, recipients: Any) -> bool:
            return [str(recipient) for recipient in recipients] == ["a@x", "b@x"]

    client = session(resolving(Streaming(deliver=deliver), "all@x: a@x, b@x"))
    rcpt(client, "all@x", "a@x")
    client.say("DATA")
    assert there == ["a@x", "b@x"]
    assert finals(client.say("Hello", ".")) == ["250 2.0.0 <all@x>", "250 2.0.0 <a@x>"]
    assert b"".join(read) == b"Hello\r\n"
