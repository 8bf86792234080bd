"""The rules for all replies: one line of ASCII, at most 512 octets, nothing injected (RFC 5321 §4.2, RFC 2034 §4)."""

from __future__ import annotations

import pytest
from dialogue import codes, greeted, with_recipients

from lmtp_twisted import PermanentFailure, Reply
from lmtp_twisted.testing import ScriptedDeliveries


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\r\nb", "a b"),
        ("a\nb", "a b"),
        ("a\rb", "a b"),
        ("a\tb", "a b"),
        ("a\x00b\x1b[31m\x7f", "a?b?[31m?"),
        ("a\x85b\x9fc", "a?b?c"),
        ("Grüße €", r"Gr\x{FC}\x{DF}e \x{20AC}"),
        ("\U0001f600", r"\x{1F600}"),
        ("\u2028", r"\x{2028}"),
        ("a\r\n250 2.0.0 forged", "a 250 2.0.0 forged"),
    ],
)
def test_the_words_of_a_handler_are_made_one_line_of_ascii(text: str, words: str) -> None:
    """RFC 5321 §4.2, RFC 6533 §3: no reply can be injected."""
    refusal = PermanentFailure(text)
    deliveries = ScriptedDeliveries(
        {"out@x": refusal, "reply@x": Reply(554, "5.0.0", text), "text@x": text},
        senders={"no@x": refusal},
        recipients={"no@x": refusal},
    )
    client = greeted(deliveries)
    assert client.say("MAIL FROM:<no@x>") == [f"550 5.7.1 {words}"]
    client.say("MAIL FROM:<a@x>")
    assert client.say("RCPT TO:<no@x>") == [f"550 5.1.1 {words}"]
    client.say("RCPT TO:<out@x>", "RCPT TO:<reply@x>", "RCPT TO:<text@x>")
    replies = client.content()
    assert len(replies) == 3
    assert [line[:3] for line in replies] == ["554", "554", "250"]
    assert all(line.endswith(words) for line in replies)


@pytest.mark.parametrize("character", ["x", "ü", "\x00", "\U0001f600", "\r\n"])
def test_words_that_are_too_long_are_cut(character: str) -> None:
    """RFC 5321 §4.5.3.1.5: 512 octets with the CRLF."""
    refusal = PermanentFailure(character * 10_000)
    local = "r" * 200
    deliveries = ScriptedDeliveries(
        {f"{local}@x": refusal, "reply@x": Reply(250, None, character * 10_000)},
        recipients={"no@x": refusal},
        senders={"no@x": refusal},
    )
    client = greeted(deliveries)
    replies = client.say(
        "MAIL FROM:<no@x>", "MAIL FROM:<a@x>", "RCPT TO:<no@x>", f"RCPT TO:<{local}@x>", "RCPT TO:<reply@x>"
    )
    replies += client.content()
    assert codes(replies) == ["550 5.7.1", "250 2.1.0", "550 5.1.1", "250 2.1.5", "250 2.1.5", "554 5.3.0", "250 2.0.0"]
    for line in replies:
        assert len(line) <= 510
        assert line.count("\\x{") == line.count("}")


def test_the_longest_recipient_is_named_and_the_line_stays_short() -> None:
    """RFC 5321 §4.5.3.1.5."""
    client = greeted(ScriptedDeliveries())
    recipient = "ü" * 120 + "@x"
    client.say("MAIL FROM:<> SMTPUTF8", f"RCPT TO:<{recipient}>")
    (reply,) = client.content()
    assert codes([reply]) == ["250 2.0.0"]
    assert reply.startswith(r"250 2.0.0 <\x{FC}\x{FC}")


def test_each_final_reply_names_its_recipient_and_an_id() -> None:
    """RFC 2033 §4.2: an operator can search for it."""
    outcomes = {"no@x": PermanentFailure("no"), "text@x": "text"}
    client = with_recipients(ScriptedDeliveries(outcomes), "a@x", "no@x", "text@x", '"a b"@x')
    session = client.protocol.session.id
    for number, (line, name) in enumerate(zip(client.content(), ("a@x", "no@x", "text@x", '"a b"@x'), strict=True), 1):
        assert line.split(" ", 2)[2].startswith(f"<{name}> {session}.1.{number} ")


def test_unknown_parameters_and_names_are_not_echoed_raw() -> None:
    """RFC 5321 §4.2."""
    client = greeted()
    for line in (b"MAIL FROM:<a@x> FOO\xff=1", b"MAIL FROM:<a\x1b[31m@x>", b"\xff\xfe\x00", b"MAIL FROM:<a@x> \x07=1"):
        assert len(client.send(line + b"\r\n")) == 1
