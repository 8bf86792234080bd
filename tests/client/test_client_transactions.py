"""What the client says for an envelope and a message, to a server that can do this and that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import CONTENT, Play, replies
from twisted.internet.defer import CancelledError, Deferred

from lmtp_twisted import Address, BareNewlines, Envelope, PermanentFailure, Recipient, Sender
from lmtp_twisted.client import OutgoingMessage, make_envelope
from lmtp_twisted.wire.content import DataDecoder
from lmtp_twisted.wire.parameters import Body, MailParameters, Notify, OriginalRecipient, RcptParameters, Ret

PLAIN = "250 server.example"


def offering(*lines: str) -> dict[str, Any]:
    """A server that can do all these."""
    return {"LHLO": "".join(f"250-{line}\n" for line in ("server.example", *lines)) + "250 PIPELINING"}


def envelope(*recipients: str, sender: str = "s@y", **parameters: Any) -> Envelope:
    """With parameters of MAIL."""
    return make_envelope(sender, recipients or ("a@x",), MailParameters(**parameters))


def test_without_pipelining_one_command_follows_the_answer_to_the_one_before() -> None:
    """RFC 2920: only where it is offered. Recipients of a refused MAIL are not named."""
    play = Play({"LHLO": PLAIN, "MAIL": "550 5.7.1 Not from you"})
    assert play.deliver() == ["550 5.7.1 Not from you"] * 3
    assert play.line.commands == ["LHLO client.example", "MAIL FROM:<s@y>"]
    play.close()


def test_a_refused_mail_is_the_reply_of_all() -> None:
    """RFC 5321 §3.3: with the pipelined commands' own replies read away; the session can be used again after RSET."""
    play = Play({"MAIL": ["451 4.7.1 Later", "250 2.1.0 OK"], "RCPT": "503 5.5.1 MAIL first", "DATA": "503 5.5.1 No"})
    assert play.deliver() == ["451 4.7.1 Later"] * 3
    play.server.answers |= {"RCPT": "250 2.1.5 OK", "DATA": "354 Go on"}
    assert play.deliver(CONTENT, "a@x") == ["250 2.0.0 Number 0"]
    assert len(play.server.lines) == 1
    assert "RSET" in play.line.commands
    play.close()


def test_a_refused_data_is_the_reply_of_those_who_were_accepted() -> None:
    """RFC 5321 §3.3."""
    play = Play({"DATA": "452 4.3.1 No room", "RCPT": lambda line: "550 5.1.1 No" if "b@x" in line else "250 2.1.5 OK"})
    assert play.deliver() == ["452 4.3.1 No room", "550 5.1.1 No", "452 4.3.1 No room"]
    play.close()


def test_replies_of_several_lines_are_one() -> None:
    """RFC 5321 §4.2.1, RFC 2034 §4: the enhanced code stands in each line."""
    play = Play({".": "550-5.7.1 This is\n550-5.7.1 not\n550 5.7.1 wanted"})
    assert play.deliver(CONTENT, "a@x") == ["550 5.7.1 This is not wanted"]
    play.close()


def test_an_enhanced_code_of_another_class_is_text() -> None:
    """RFC 2034 §4: its class is that of the code; and none is made up."""
    play = Play({".": "250 5.1.1 is what I say\n550 no code\n250 2.1"})
    assert play.deliver() == ["250 5.1.1 is what I say", "550 no code", "250 2.1"]
    play.close()


def test_parameters_go_out_where_the_server_knows_them() -> None:
    """RFC 1870, 3461, 4954, 6152, 6710: and nowhere else."""
    mail = MailParameters(ret=Ret.HDRS, envid="a+b=c", auth="", mt_priority=-3, body=Body.EIGHT_BIT_MIME)
    original = OriginalRecipient("rfc822", "B+ob@y")
    rcpt = RcptParameters(notify=Notify.SUCCESS | Notify.DELAY, orcpt=original)
    sent = Envelope(Sender(Address("s", "y"), mail), (Recipient(Address("a b", "x"), rcpt),))
    play = Play(offering("SIZE", "DSN", "AUTH PLAIN", "MT-PRIORITY", "8BITMIME"))
    play.deliver(envelope=sent)
    assert play.line.commands[1:3] == [
        f"MAIL FROM:<s@y> SIZE={len(CONTENT)} BODY=8BITMIME RET=HDRS ENVID=a+2Bb+3Dc AUTH=<> MT-PRIORITY=-3",
        'RCPT TO:<"a b"@x> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2Bob@y',
    ]
    play.close()
    play = Play(offering("8BITMIME"))
    play.deliver(envelope=sent)
    assert play.line.commands[1:3] == ["MAIL FROM:<s@y> BODY=8BITMIME", 'RCPT TO:<"a b"@x>']
    play.close()


def test_8bit_is_declared_where_it_may_come() -> None:
    """RFC 6152 §2: of a stream nobody knows; what is ASCII needs no word."""
    for message, words in ((b"x", ""), ("\u00e9".encode(), " BODY=8BITMIME"), (stream(b"x"), " BODY=8BITMIME")):
        play = Play(offering("8BITMIME"))
        play.deliver(message, "a@x")
        assert play.line.commands[1] == f"MAIL FROM:<s@y>{words}"
        play.close()


def stream(*pieces: bytes, repeatable: bool = False, size: int | None = None) -> OutgoingMessage:
    """A message that comes in pieces."""

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return OutgoingMessage(chunks, size, repeatable)


UTF8 = make_envelope("s@y", ["a@x", "d\u00f6rte@x", "c@x"])


@pytest.mark.parametrize(
    ("offered", "sent", "message", "outcomes"),
    [
        ((), envelope(body=Body.EIGHT_BIT_MIME), b"x", ["554 5.6.3"]),
        ((), envelope(), b"\xff", ["554 5.6.3"]),
        ((), envelope("a@x", "b@x"), stream(b"x" * 70000, b"\xff"), ["554 5.6.3", "554 5.6.3"]),
        (("CHUNKING",), envelope(), stream(b"x" * 70000, b"\xff"), ["554 5.6.3"]),
        (("CHUNKING", "8BITMIME"), envelope(body=Body.BINARY_MIME), b"x", ["554 5.6.3"]),
        (("BINARYMIME",), envelope(body=Body.BINARY_MIME), b"x", ["554 5.6.3"]),
        (("8BITMIME",), UTF8, b"x", ["250 2.0.0", "553 5.6.7", "250 2.0.0"]),
        (("8BITMIME",), envelope(sender="\u00e9@y"), b"x", ["550 5.6.7"]),
        (("8BITMIME",), envelope(smtputf8=True), b"x", ["550 5.6.7"]),
        (("SIZE 10",), envelope("a@x", "b@x"), b"x" * 11, ["552 5.3.4", "552 5.3.4"]),
        (("SIZE 10",), envelope(), stream(b"x" * 6, b"x" * 5), ["552 5.3.4"]),
        (("SIZE 10",), envelope(), stream(b"x" * 6, b"x" * 4), ["250 2.0.0"]),
        (("SIZE 0",), envelope(), b"x" * 11, ["250 2.0.0"]),
        (("REQUIRETLS",), envelope(requiretls=True), b"x", ["550 5.7.30"]),
        ((), Envelope(Sender(Address("a>\r\nRSET", "y")), UTF8.recipients[:1]), b"x", ["553 5.1.7"]),
        ((), Envelope(UTF8.sender, (Recipient(Address("a", "x> <b@y")),)), b"x", ["553 5.1.3"]),
    ],
)
def test_what_a_server_cannot_take_fails_for_good_and_is_not_sent(
    offered: tuple[str, ...], sent: Envelope, message: Any, outcomes: list[str]
) -> None:
    """RFC 1870 §6, 6152 §3, 3030 §3, 6531 §3.5, 8689 §4: it is never changed to fit; the others go on."""
    play = Play(offering(*offered))
    assert [" ".join(reply.split()[:2]) for reply in play.deliver(message, envelope=sent)] == outcomes
    if not any(outcome.startswith("2") for outcome in outcomes):
        assert not play.line.content
    assert not any("RSET" in command or "<b@y>" in command for command in play.line.commands)
    play.close()


def test_smtputf8_is_asked_for_where_an_address_needs_it() -> None:
    """RFC 6531 §3.4."""
    play = Play(offering("SMTPUTF8", "8BITMIME"))
    play.deliver(b"x", envelope=UTF8)
    assert play.line.commands[1:4] == ["MAIL FROM:<s@y> SMTPUTF8", "RCPT TO:<a@x>", "RCPT TO:<d\u00f6rte@x>"]
    play.close()


@pytest.mark.parametrize("offered", [(), ("CHUNKING",)])
def test_bare_newlines_are_mended_refused_or_kept_where_that_is_safe(offered: tuple[str, ...]) -> None:
    """RFC 5321 §2.3.8, §4.1.1.4: none of them ever leaves by DATA."""
    smuggled = [b"a\n.\r", b"\nMAIL FROM:<evil@x>\r", b"b\n"]
    mended = b"a\r\n.\r\nMAIL FROM:<evil@x>\r\nb\r\n"
    stuffed = mended.replace(b"\r\n.", b"\r\n..")
    play = Play(offering(*offered), bare_newlines=BareNewlines.NORMALISE)
    assert play.deliver(stream(*smuggled), "a@x") == ["250 2.0.0 Number 0"]
    assert play.line.content == (mended if offered else stuffed)
    play.close()
    play = Play(offering(*offered), bare_newlines=BareNewlines.REJECT)
    assert play.deliver(stream(*smuggled), "a@x") == ["550 5.6.0 Bare CR or LF in the content"]
    assert not play.line.content
    play.close()
    play = Play(offering(*offered), bare_newlines=BareNewlines.KEEP)
    (reply,) = play.deliver(stream(*smuggled), "a@x")
    assert reply[:9] == ("250 2.0.0" if offered else "550 5.6.0")
    assert play.line.content == (b"".join(smuggled) if offered else b"")
    play.close()


def test_a_binary_content_is_kept_as_it_is() -> None:
    """RFC 3030 §3."""
    play = Play(offering("CHUNKING", "BINARYMIME"), bare_newlines=BareNewlines.REJECT)
    octets = bytes(range(256))
    assert play.deliver(octets, envelope=envelope(body=Body.BINARY_MIME)) == ["250 2.0.0 Number 0"]
    assert play.line.commands[1] == "MAIL FROM:<s@y> BODY=BINARYMIME"
    assert play.line.content == octets
    play.close()


@given(pieces=st.lists(st.text("a.\r\n", max_size=6).map(str.encode), max_size=6), chunked=st.booleans())
def test_any_content_arrives_with_its_newlines_mended_however_it_is_cut(pieces: list[bytes], chunked: bool) -> None:
    """RFC 5321 §4.5.2: read back by a server's decoder; nothing in it ends it."""
    whole = b"".join(pieces)
    mended = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    play = Play(offering("CHUNKING") if chunked else {})
    assert play.deliver(stream(*pieces), "a@x") == ["250 2.0.0 Number 0"]
    if chunked:
        assert play.line.content == mended
    else:
        decoder = DataDecoder()
        content = b"" if play.line.content == b"\r\n" and not whole else play.line.content
        assert decoder.feed(content + b".\r\n") == (mended if mended.endswith(b"\n") or not whole else mended + b"\r\n")
        assert decoder.rest == b""
    play.close()


def test_chunks_are_neither_tiny_nor_huge() -> None:
    """RFC 3030 §2: small pieces are gathered; the last chunk says so."""
    play = Play(offering("CHUNKING"))
    assert play.deliver(stream(*[b"x" * 1000] * 200), "a@x") == ["250 2.0.0 Number 0"]
    sizes = [command.split()[1:] for command in play.line.commands if command.startswith("BDAT")]
    assert sizes == [["66000"], ["66000"], ["66000"], ["2000", "LAST"]]
    assert play.line.content == b"x" * 200_000
    play.close()


def test_a_refused_chunk_is_the_reply_of_all_who_were_accepted() -> None:
    """RFC 3030 §4.2: the rest is not sent."""
    play = Play(offering("CHUNKING") | {"BDAT": "452 4.3.1 No room"})
    assert play.deliver(stream(*[b"x" * 66000] * 9), "a@x", "b@x") == ["452 4.3.1 No room"] * 2
    assert play.line.aborting
    play.close()


def test_a_content_that_fails_is_not_committed() -> None:
    """RFC 5321 §4.1.1.4: the connection ends before the dot. A DeliveryError is the reply, all else is raised."""

    async def refused() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise PermanentFailure("Loop", code=554, enhanced="5.4.6")

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise OSError("disk")

    for offered in ((), ("CHUNKING",)):
        play = Play(offering(*offered))
        assert play.deliver(refused()) == ["554 5.4.6 Loop"] * 3
        assert play.line.aborting
        found = play.deliver(broken())
        assert [type(failure.value) for failure in found] == [OSError] * 3  # type: ignore[attr-defined]
        assert not any(line.content for line in play.server.lines)
        play.close()


def test_a_delivery_that_is_cancelled_is_not_committed() -> None:
    """Nor does a message go on whose recipients are all cancelled; one alone changes nothing for the others."""
    waiting: Deferred[None] = Deferred()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 10
        await waiting
        yield b"y"

    play = Play()
    started = play.start(slow())
    started[1].addErrback(lambda failure: failure.trap(CancelledError) and None)
    started[1].cancel()
    play.settle()
    assert not play.line.aborting
    for one in (started[0], started[2]):
        one.addErrback(lambda failure: failure.trap(CancelledError) and None)
        one.cancel()
    play.settle()
    assert play.line.is_lost
    assert not play.line.content
    play.close()


def test_the_content_waits_for_a_server_that_does_not_read() -> None:
    """RFC 5321 §4.5.3.2: bounded memory, and a time-out."""
    taken: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 1000

    play = Play()
    connect = play.server.connect

    def full(factory: Any) -> Any:
        made = connect(factory)
        line = play.line
        write = line.write

        def write_and_pause(data: bytes) -> None:
            write(data)
            if line.producer is not None:
                line.producer.pauseProducing()

        line.write = write_and_pause  # type: ignore[method-assign]
        return made

    play.server.connect = full  # type: ignore[method-assign]
    started = play.start(endless(), "a@x")
    assert len(taken) == 1
    play.line.producer.resumeProducing()
    play.settle()
    assert len(taken) == 2
    play.after(180)
    assert replies(started) == ["451 4.4.2 The server did not take more of the content within 180 s"]
    play.close()


def test_xforward_goes_out_where_it_is_offered() -> None:
    """Postfix's XFORWARD_README: only what the server takes, in xtext; a refusal of it keeps no message."""
    attributes = {"NAME": None, "ADDR": "192.0.2.1", "HELO": "a b\r\nRSET", "SOURCE": "REMOTE"}
    play = Play(offering("XFORWARD NAME ADDR HELO") | {"XFORWARD": "550 5.7.0 Not you"})
    started = play.client.deliver_each(make_envelope("s@y", ["a@x"]), CONTENT, attributes)
    play.settle()
    assert replies(started) == ["250 2.0.0 Number 0"]
    assert play.line.commands[1:3] == [
        "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 HELO=a+20b+0D+0ARSET",
        "MAIL FROM:<s@y>",
    ]
    play.close()
    play = Play()
    play.client.deliver_each(make_envelope("s@y", ["a@x"]), CONTENT, attributes)
    play.settle()
    assert play.line.commands[1] == "MAIL FROM:<s@y>"
    play.close()


def test_long_attributes_of_xforward_take_several_lines() -> None:
    """RFC 5321 §4.5.3.1.4: no command line is over 512 octets."""
    play = Play(offering("XFORWARD NAME ADDR HELO IDENT"))
    play.client.deliver_each(make_envelope("s@y", ["a@x"]), CONTENT, {"NAME": "n" * 400, "HELO": "h" * 400})
    play.settle()
    assert [len(command) for command in play.line.commands[1:3]] == [269, 269]
    play.close()


@pytest.mark.parametrize(
    ("limits", "numbers"), [("RCPTMAX=2", (0, 1, 0, 1, 0)), ("MAILMAX=9 RCPTDOMAINMAX=1", (0, 0, 1, 1, 2))]
)
def test_more_recipients_than_a_server_takes_are_several_transactions(limits: str, numbers: tuple[int, ...]) -> None:
    """RFC 9422 §4: where the content can be read again."""
    play = Play(offering(f"LIMITS {limits}"))
    found = play.deliver(CONTENT, "a@x", "b@y", "c@x", "d@y", "e@y")
    assert found == [f"250 2.0.0 Number {number}" for number in numbers]
    assert len(play.server.lines) == 1
    play.close()
    play = Play(offering("LIMITS RCPTMAX=2"))
    assert play.deliver(stream(CONTENT)) == [
        "250 2.0.0 Number 0",
        "250 2.0.0 Number 1",
        "452 4.5.3 Too many recipients for one transaction of the server",
    ]
    play.close()


def test_recipients_that_are_too_many_for_one_transaction_get_another() -> None:
    """RFC 5321 §4.5.3.1.10: 452 4.5.3 is not about the recipient. A full mailbox is."""
    seen: list[str] = []

    def rcpt(line: str) -> str:
        if "full@x" in line:
            return "452 4.2.2 Full"
        seen.append(line)
        return "250 2.1.5 OK" if len(seen) % 3 else "452 4.5.3 Too many"

    play = Play({"RCPT": rcpt})
    found = play.deliver(CONTENT, "a@x", "full@x", "b@x", "c@x", "d@x")
    assert found[1] == "452 4.2.2 Full"
    assert all(reply.startswith("250") for reply in (found[0], *found[2:])), found
    play.close()


def test_a_server_that_takes_nobody_is_not_asked_for_ever() -> None:
    """RFC 5321 §4.5.3.1.10: too many where none is accepted is an answer like any other."""
    play = Play({"RCPT": "452 4.5.3 Too many", "DATA": "503 5.5.1 No"})
    assert play.deliver() == ["452 4.5.3 Too many"] * 3
    play.close()


def test_an_envelope_without_recipients_is_no_message() -> None:
    """RFC 5321 §3.3."""
    play = Play()
    assert play.deliver(envelope=attrs.evolve(UTF8, recipients=())) == []
    assert play.server.attempts == 0
    play.close()


def test_a_message_of_no_known_kind_is_an_error_of_the_caller() -> None:
    """Text has no octets."""
    play = Play()
    with pytest.raises(TypeError, match="a message is bytes"):
        play.client.deliver_each(UTF8, "text")
    with pytest.raises(ValueError, match="'a@': the domain"):
        make_envelope("a@", [])
    play.close()


def test_deliver_fires_with_all_replies_or_with_what_the_message_raised() -> None:
    """One Deferred for a whole message; cancelling it ends the connection."""
    play = Play({".": None})
    got: list[Any] = []
    done = play.client.deliver(UTF8, CONTENT).addBoth(got.append)
    play.settle()
    assert got == []
    done.cancel()
    play.settle()
    assert got[0].check(CancelledError)
    assert play.line.is_lost
    play.close()

    async def broken() -> AsyncIterator[bytes]:
        raise OSError("disk")
        yield b""

    play = Play()
    play.client.deliver(make_envelope("s@y", ["a@x", "b@x"]), broken()).addBoth(got.append)
    play.settle()
    assert got[1].check(OSError)
    play.close()
