"""MAIL and RCPT: paths, how many recipients, the application's refusals (RFC 5321 §4.1.1.2, §4.1.1.3)."""

from __future__ import annotations

from typing import Any

import pytest
from dialogue import codes, greeted, with_recipients, with_sender
from envelopes import mail, rcpt, recipient_of, sender_of

from lmtp_twisted import Address, PermanentFailure, Reply, TemporaryFailure
from lmtp_twisted.errors import DeliveryError
from lmtp_twisted.testing import ScriptedDeliveries


def test_the_null_sender_is_accepted() -> None:
    """RFC 5321 §4.5.5."""
    assert mail("<>") == "250 2.1.0"
    assert sender_of("<>").address is None


def test_the_null_recipient_is_501() -> None:
    """RFC 5321 §4.1.1.3."""
    assert rcpt("<>") == "501 5.1.3"


@pytest.mark.parametrize("name", ["Postmaster", "postmaster", "POSTMASTER", "pOsTmAsTeR"])
def test_postmaster_without_a_domain_is_accepted_in_any_case(name: str) -> None:
    """RFC 5321 §4.5.1."""
    assert rcpt(f"<{name}>") == "250 2.1.5"
    assert recipient_of(f"<{name}>").address == Address(name, "")


def test_a_recipient_without_a_domain_is_the_backends_to_decide() -> None:
    """RFC 2033 §1: local delivery knows its own names."""
    client = with_sender(ScriptedDeliveries(recipients={"nobody": PermanentFailure("no such user")}))
    assert codes(client.say("RCPT TO:<user>", "RCPT TO:<nobody>")) == ["250 2.1.5", "550 5.1.1"]


@pytest.mark.parametrize("path", ["<@a,@b:u@c>", "<@a:u@c>", "<@a.example,@b.example:u@c>"])
def test_a_source_route_is_stripped(path: str) -> None:
    """RFC 5321 appendix C."""
    assert sender_of(path).address == Address("u", "c")
    assert recipient_of(path).address == Address("u", "c")


@pytest.mark.parametrize(
    ("path", "address", "canonical"),
    [
        ('<"a b"@c>', Address("a b", "c"), '"a b"@c'),
        ('<"a\\"b"@c>', Address('a"b', "c"), '"a\\"b"@c'),
        ('<""@c>', Address("", "c"), '""@c'),
        ('<"ab"@c>', Address("ab", "c"), "ab@c"),
        ('<"a\\b"@c>', Address("ab", "c"), "ab@c"),
        ('<"a@b"@c>', Address("a@b", "c"), '"a@b"@c'),
        ('<"a>b"@c>', Address("a>b", "c"), '"a>b"@c'),
    ],
)
def test_a_quoted_local_part_is_parsed_and_kept_in_canonical_form(path: str, address: Address, canonical: str) -> None:
    """RFC 5321 §4.1.2: quotes only where they are needed."""
    assert recipient_of(path).address == address
    assert str(recipient_of(path)) == canonical
    assert str(sender_of(path)) == canonical


def test_two_spellings_of_one_mailbox_are_one_recipient() -> None:
    """RFC 5321 §4.1.2, RFC 2033 §4.2."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "ab@c", '"ab"@C', "@route:ab@c")
    assert len(client.content()) == 3
    assert len(deliveries.messages[0].recipients) == 1


def test_local_parts_that_differ_in_case_are_two_recipients() -> None:
    """RFC 5321 §2.4: it is the backend that may think them one."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "ab@c", "AB@c")
    assert len(client.content()) == 2
    assert len(deliveries.messages[0].recipients) == 2


@pytest.mark.parametrize("literal", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "[ipv6:::1]"])
def test_an_address_literal_is_accepted(literal: str) -> None:
    """RFC 5321 §4.1.3."""
    assert rcpt(f"<u@{literal}>") == "250 2.1.5"
    assert mail(f"<u@{literal}>") == "250 2.1.0"


@pytest.mark.parametrize(
    "literal", ["[300.1.1.1]", "[1.2.3]", "[]", "[IPv6:zz]", "[IPv6:1.2.3.4]", "[x]", "[192.0.2.1", "[::1]"]
)
def test_a_bad_address_literal_is_501(literal: str) -> None:
    """RFC 5321 §4.1.3."""
    assert rcpt(f"<u@{literal}>") == "501 5.1.3"
    assert mail(f"<u@{literal}>") == "501 5.1.7"


@pytest.mark.parametrize("blank", [" ", "  "])
def test_a_blank_before_the_angle_bracket_is_tolerated(blank: str) -> None:
    """RFC 5321 §3.3 forbids it to clients."""
    assert mail(f"{blank}<a@x>") == "250 2.1.0"
    assert rcpt(f"{blank}<a@x>") == "250 2.1.5"
    assert mail(f"{blank}<a@x> SIZE=1") == "250 2.1.0"
    assert mail(f"{blank}<>") == "250 2.1.0"


@pytest.mark.parametrize(
    "path",
    [
        "a@b",
        "<a@b@c>",
        "<a.@b>",
        "<.a@b>",
        "<a..b@c>",
        "<a\x01b@c>",
        "<a\x7fb@c>",
        '<"a\x00b"@c>',
        "<a@b",
        "<a@>",
        "<@b>",
        "<a@b c>",
        "<a b@c>",
        "<<a@b>>",
        "< >",
        "<a@-b>",
        "<a@b-.c>",
        "<a@b..c>",
        "<@a,@b>",
        "<@a;@b:u@c>",
    ],
)
def test_a_malformed_path_is_501(path: str) -> None:
    """RFC 5321 §4.1.2, RFC 3463 §3.2."""
    assert mail(path) == "501 5.1.7"
    assert rcpt(path) == "501 5.1.3"


def test_a_carriage_return_in_a_path_is_501() -> None:
    """RFC 5321 §2.3.8."""
    assert codes(greeted().send(b"MAIL FROM:<a\rb@c>\r\n")) == ["501 5.1.7"]


def test_a_long_local_part_is_accepted() -> None:
    """RFC 5321 §4.5.3.1.1 allows more than 64 octets, and local systems use it."""
    assert rcpt(f"<{'u' * 200}@example.org>") == "250 2.1.5"
    assert mail(f"<{'u' * 200}@example.org>") == "250 2.1.0"


@pytest.mark.parametrize("quoted", [False, True])
def test_a_path_of_256_octets_is_accepted_and_a_longer_one_is_501(quoted: bool) -> None:
    """RFC 5321 §4.5.3.1.3."""
    domain = "@example.org>"
    local = 256 - len("<") - len(domain)
    longest = f'<"{"u" * (local - 2)}"{domain}' if quoted else f"<{'u' * local}{domain}"
    assert len(longest) == 256
    longer = longest.replace("u@", "uu@").replace('u"@', 'uu"@')
    assert (mail(longest), rcpt(longest)) == ("250 2.1.0", "250 2.1.5")
    assert (mail(longer), rcpt(longer)) == ("501 5.1.7", "501 5.1.3")


@pytest.mark.parametrize("most", [1, 5, 100])
def test_more_than_the_most_recipients_are_452_and_the_earlier_ones_stand(most: int) -> None:
    """RFC 5321 §4.5.3.1.10."""
    client = with_sender(max_recipients=most)
    replies = codes(client.say(*(f"RCPT TO:<r{number}@x>" for number in range(most + 3))))
    assert replies == ["250 2.1.5"] * most + ["452 4.5.3"] * 3
    assert codes(client.content()) == ["250 2.0.0"] * most


def test_a_thousand_recipients_work_by_default() -> None:
    """RFC 5321 §4.5.3.1.8 asks for 100."""
    client = with_sender()
    replies = codes(client.say(*(f"RCPT TO:<r{number}@x>" for number in range(1001))))
    assert replies == ["250 2.1.5"] * 1000 + ["452 4.5.3"]
    assert codes(client.content()) == ["250 2.0.0"] * 1000


def test_refused_recipients_do_not_count_and_repeated_ones_do() -> None:
    """RFC 5321 §4.5.3.1.10: what counts is what a reply is owed for."""
    client = with_sender(ScriptedDeliveries(recipients={"no@x": PermanentFailure("no")}), max_recipients=2)
    lines = [f"RCPT TO:<{name}@x>" for name in ("no", "a", "no", "a", "a")]
    assert codes(client.say(*lines)) == ["550 5.1.1", "250 2.1.5", "550 5.1.1", "250 2.1.5", "452 4.5.3"]
    assert len(client.content()) == 2


def test_the_next_message_may_have_as_many_recipients_again() -> None:
    """RFC 5321 §4.5.3.1.8."""
    client = greeted(max_recipients=1)
    for _ in range(3):
        assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<a@x>", "RCPT TO:<b@x>")) == [
            "250 2.1.0",
            "250 2.1.5",
            "452 4.5.3",
        ]
        assert codes(client.content()) == ["250 2.0.0"]


@pytest.mark.parametrize(
    ("refusal", "sender", "recipient"),
    [
        (PermanentFailure("no"), "550 5.7.1", "550 5.1.1"),
        (DeliveryError(text="no"), "550 5.7.1", "550 5.1.1"),
        (TemporaryFailure("later"), "451 4.3.0", "451 4.3.0"),
        (PermanentFailure("no", code=553), "553 5.7.1", "553 5.1.1"),
        (PermanentFailure("no", enhanced="5.2.1"), "550 5.2.1", "550 5.2.1"),
        (PermanentFailure("no", code=554, enhanced="5.1.6"), "554 5.1.6", "554 5.1.6"),
        (TemporaryFailure("later", code=450, enhanced="4.2.1"), "450 4.2.1", "450 4.2.1"),
        (DeliveryError(450, text="later"), "450 4.3.0", "450 4.3.0"),
        (DeliveryError(enhanced="4.2.2", text="full"), "451 4.2.2", "451 4.2.2"),
        (Reply(550, "5.1.1", "no"), "550 5.1.1", "550 5.1.1"),
        (Reply(450, None, "later"), "450 4.3.0", "450 4.3.0"),
    ],
)
def test_a_refusal_has_its_own_codes_or_the_defaults_of_the_place(refusal: Any, sender: str, recipient: str) -> None:
    """RFC 3463 §3.2, §3.8; the class of both codes is one (RFC 2034 §4)."""
    deliveries = ScriptedDeliveries(senders={"no@x": refusal}, recipients={"no@x": refusal})
    client = greeted(deliveries)
    assert codes(client.say("MAIL FROM:<no@x>")) == [sender]
    client.say("MAIL FROM:<a@x>")
    assert codes(client.say("RCPT TO:<no@x>")) == [recipient]
    assert codes(client.say("RCPT TO:<yes@x>")) == ["250 2.1.5"]
    assert codes(client.content()) == ["250 2.0.0"]


@pytest.mark.parametrize(
    "refusal", [DeliveryError(550, "4.2.1", "x"), Reply(550, "4.2.1", "x"), Reply(550, "2.0.0", "x")]
)
def test_a_refusal_whose_codes_disagree_is_of_the_class_of_its_code(refusal: Any) -> None:
    """RFC 2034 §4."""
    client = with_sender(ScriptedDeliveries(recipients={"no@x": refusal}))
    (answer,) = codes(client.say("RCPT TO:<no@x>"))
    assert answer.startswith("550 5.")


@pytest.mark.parametrize("text", ["no such user", "moved to <b@x>"])
def test_the_words_of_a_refusal_reach_the_client(text: str) -> None:
    """RFC 5321 §4.2."""
    client = with_sender(ScriptedDeliveries(recipients={"no@x": PermanentFailure(text)}))
    assert client.say("RCPT TO:<no@x>") == [f"550 5.1.1 {text}"]


def test_the_application_may_accept_with_words_of_its_own() -> None:
    """RFC 5321 §4.2."""
    deliveries = ScriptedDeliveries(
        senders={"a@x": "welcome back"},
        recipients={"b@x": "mailbox found", "c@x": Reply(251, "2.1.5", "will forward"), "d@x": True},
    )
    client = greeted(deliveries)
    assert client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>") == [
        "250 2.1.0 welcome back",
        "250 2.1.5 mailbox found",
        "251 2.1.5 will forward",
    ]
    assert codes(client.say("RCPT TO:<d@x>")) == ["250 2.1.5"]
    assert len(client.content()) == 3


def test_an_overloaded_backend_refuses_at_mail() -> None:
    """RFC 3463 §3.4: never part of one message."""

    class Busy:
        def getDelivery(self, session: object) -> None:
            raise TemporaryFailure("busy", enhanced="4.3.2")

    client = greeted(Busy())
    assert codes(client.say("MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA")) == ["451 4.3.2", "503 5.5.1", "503 5.5.1"]


def test_the_application_is_asked_once_for_each_command_in_order() -> None:
    """RFC 2033 §4.2."""
    deliveries = ScriptedDeliveries()
    client = with_recipients(deliveries, "a@x", "b@x", "a@x")
    client.content()
    assert [name for name, _ in deliveries.calls] == [
        "getDelivery",
        "validateFrom",
        "validateTo",
        "validateTo",
        "validateTo",
        "deliver",
    ]
    assert [str(argument) for name, argument in deliveries.calls if name == "validateTo"] == ["a@x", "b@x", "a@x"]


def test_a_refused_sender_aborts_the_delivery() -> None:
    """So that it can release what it has reserved."""
    deliveries = ScriptedDeliveries(senders={"no@x": PermanentFailure("no")})
    greeted(deliveries).say("MAIL FROM:<no@x>")
    assert [name for name, _ in deliveries.calls] == ["getDelivery", "validateFrom", "aborted"]
