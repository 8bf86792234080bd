"""The kit against a small server that is right, and against others that are wrong in one thing each."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from judging import LITTLE_PATIENCE, SCENARIOS, failed, judge_small, only_result
from small_server import Gone, Session, SmallServer

from lmtp_twisted.conformance.connection import Connection, Silence
from lmtp_twisted.conformance.judge import judge
from lmtp_twisted.conformance.reading import read_scenarios
from lmtp_twisted.conformance.result import Verdict
from lmtp_twisted.conformance.scenario import Level
from lmtp_twisted.conformance.session import Server
from lmtp_twisted.conformance.settings import Settings, Target
from lmtp_twisted.conformance.splits import judge_splits


def test_a_server_that_is_right_is_not_accused() -> None:
    """Nor is it passed by leaving things out: it has most of what there is."""
    done = judge_small(level=Level.MUST)
    assert failed(done) == {}
    assert sum(result.verdict is Verdict.PASSED for result in done.results) > 120


class OneReplyForAll(Session):
    """What servers do that take LMTP for SMTP."""

    def finish(self, size: int) -> None:
        self.forget()
        self.say("250 2.0.0 OK")


def test_one_reply_for_all_recipients_is_found() -> None:
    """RFC 2033 §4.2"""
    result = only_result(judge_small(OneReplyForAll, "final/three-recipients", patience=LITTLE_PATIENCE))
    assert (result.verdict, result.level) == (Verdict.FAILED, Level.MUST)
    assert result.expected == "any for bob@example.org"
    assert result.came == "nothing within 0.3 s; to NOOP: 250 2.0.0 OK"


class NoReplyForTheSecond(Session):
    """One that takes the same recipient for one."""

    def finish(self, size: int) -> None:
        self.recipients = list(dict.fromkeys(self.recipients))
        super().finish(size)


def test_a_missing_reply_for_a_recipient_given_twice_is_found() -> None:
    """RFC 2033 §4.2"""
    done = judge_small(NoReplyForTheSecond, "final/*", patience=LITTLE_PATIENCE)
    assert failed(done).keys() == {
        "final/the-same-recipient-twice",
        "final/the-same-recipient-between-others",
        "final/the-same-recipient-a-hundred-times",
    }


class OneReplyTooMany(Session):
    """One for the message itself, as SMTP has it."""

    def finish(self, size: int) -> None:
        super().finish(size)
        self.say("250 2.0.0 Message accepted")


@pytest.mark.parametrize("name", ["final/three-recipients", "final/one-recipient", "bdat/one-chunk"])
def test_a_reply_too_many_is_found(name: str) -> None:
    """It looks like that to NOOP, so that to QUIT is the first that is wrong."""
    result = only_result(judge_small(OneReplyTooMany, name))
    assert result.verdict is Verdict.FAILED
    assert (result.expected, result.came) == ("221 to QUIT at the end", "250 2.0.0 OK")


class TheOtherWayRound(Session):
    """Replies as they come."""

    def finish(self, size: int) -> None:
        self.recipients.reverse()
        super().finish(size)


def test_replies_in_another_order_are_found() -> None:
    """RFC 2033 §4.2"""
    result = only_result(judge_small(TheOtherWayRound, "final/three-recipients"))
    assert result.expected == "any for alice@example.org"
    assert result.came == "250 2.0.0 <carol@example.org>"


class EndsAtLfDotLf(Session):
    """Smuggling made easy."""

    def content(self) -> bytes:
        self.buffer = b"\r\n" + self.buffer
        while b"\n.\n" not in self.buffer and self.end not in self.buffer:
            self.receive()
        mark = min((self.end, b"\n.\n"), key=lambda mark: self.buffer.find(mark) % (1 << 40))
        content, _, self.buffer = self.buffer.partition(mark)
        return content


def test_an_end_at_lf_dot_lf_is_found() -> None:
    """RFC 5321 §2.3.8"""
    found = failed(judge_small(EndsAtLfDotLf, "data/*"))
    assert "data/lf-dot-lf-is-content" in found
    assert "data/a-smuggled-transaction-is-content" in found
    assert "data/lf-dot-crlf-is-content" not in found
    assert "data/the-end-is-crlf-dot-crlf" not in found


class EndsAtLfDotCrlf(Session):
    """The other half of it."""

    end = b"\n.\r\n"


def test_an_end_at_lf_dot_crlf_is_found() -> None:
    """RFC 5321 §2.3.8"""
    found = failed(judge_small(EndsAtLfDotCrlf, "data/*"))
    assert "data/lf-dot-crlf-is-content" in found
    assert "data/lf-dot-lf-is-content" not in found


class TakesAnyCode(Session):
    """It has no order of commands."""

    def do_RCPT(self, argument: bytes) -> None:
        self.say("250 2.1.5 OK")


def test_a_wrong_code_is_found() -> None:
    """RFC 5321 §4.1.1.3"""
    result = only_result(judge_small(TakesAnyCode, "session/rcpt-without-mail"))
    assert (result.expected, result.came) == ("503 (503 5.5.1)", "250 2.1.5 OK")


class RunsOctetsOfRefusedChunks(Session):
    """What follows a refused BDAT is commands to it."""

    def refuse_chunk(self, size: int) -> None:
        self.say("503 5.5.1 Not now")


def test_octets_of_a_refused_chunk_that_are_run_are_found() -> None:
    """RFC 3030 §2"""
    found = failed(judge_small(RunsOctetsOfRefusedChunks, "bdat/*"))
    assert {"bdat/before-lhlo", "bdat/without-mail", "bdat/without-a-recipient"} <= found.keys()


class OtherCodes(Session):
    """Right, but not by the letter."""

    def do_DATA(self, argument: bytes) -> None:
        if self.recipients:
            super().do_DATA(argument)
        else:
            self.say("503 5.5.0 Not now")


def test_another_enhanced_code_is_a_matter_of_the_level_beyond() -> None:
    """No RFC names the enhanced code for it."""
    name = "session/data-without-mail"
    assert only_result(judge_small(OtherCodes, name, level=Level.SHOULD)).verdict is Verdict.PASSED
    result = only_result(judge_small(OtherCodes, name, level=Level.BEYOND))
    assert (result.verdict, result.level, result.is_inexact) == (Verdict.FAILED, Level.BEYOND, True)
    assert result.came == "503 5.5.0 Not now"


class NoEnhancedCodes(OtherCodes):
    """It does not announce them either."""

    capabilities = ("PIPELINING", "8BITMIME")

    def say(self, text: str) -> None:
        code, _, rest = text.partition(" ")
        super().say(f"{code} {rest.partition(' ')[2]}" if rest[:2] in ("2.", "4.", "5.") else text)


def test_enhanced_codes_are_asked_of_those_that_announce_them() -> None:
    """RFC 2034 §3"""
    done = judge_small(NoEnhancedCodes, "session/data-without-mail", "enhanced/on-success", level=Level.BEYOND)
    assert [(result.scenario.name, result.verdict) for result in done.results] == [
        ("enhanced/on-success", Verdict.ABSENT),
        ("session/data-without-mail", Verdict.PASSED),
    ]


class WrongClass(Session):
    """A success that calls itself a failure."""

    def do_NOOP(self, argument: bytes) -> None:
        self.say("250 5.0.0 OK")


def test_an_enhanced_code_of_another_class_is_found() -> None:
    """RFC 2034 §4"""
    result = only_result(judge_small(WrongClass, "enhanced/on-success"))
    assert (result.verdict, result.expected) == (Verdict.FAILED, "250 enhanced")


class LinesBySegments(Session):
    """It takes what came with one segment for a line."""

    def line(self) -> bytes:
        if not self.buffer:
            self.receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line


def test_a_server_that_takes_segments_for_lines_is_found_by_splits() -> None:
    """RFC 5321 §2.3.8: only CRLF ends a line."""
    name = "mail/null-sender"
    assert only_result(judge_small(LinesBySegments, name)).verdict is Verdict.PASSED
    result = only_result(judge_small(LinesBySegments, name, every_split=True, patience=LITTLE_PATIENCE))
    assert result.verdict is Verdict.FAILED
    assert result.came.startswith("cut after 1 octets: ")
    assert result.transcript[0].endswith("(cut after 1 octets)")


class OtherRepliesToSegments(Session):
    """It answers the same, but not in the same words, where a segment ends within the line."""

    was_cut = False

    def receive(self) -> None:
        super().receive()
        self.was_cut = not self.buffer.endswith(b"\n")

    def do_VRFY(self, argument: bytes) -> None:
        self.say("250 2.1.5 Yes" if self.was_cut else "252 2.1.5 Perhaps")

    def line(self) -> bytes:
        self.was_cut = False
        while b"\r\n" not in self.buffer:
            before = self.was_cut
            self.receive()
            self.was_cut |= before
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line


def test_other_replies_to_a_split_are_found_though_both_are_right() -> None:
    """Where octets are cut means nothing."""
    done = judge_small(OtherRepliesToSegments, "session/vrfy", level=Level.SHOULD, every_split=True)
    result = only_result(done)
    assert result.verdict is Verdict.FAILED
    assert "252" in result.expected
    assert "250" in result.came


def test_splits_that_take_too_long_are_a_failure() -> None:
    """It was not shown that it passes."""
    with SmallServer() as server:
        settings = Settings(target=Target(host="127.0.0.1", port=server.port))
        (scenario,) = [one for one in SCENARIOS if one.name == "session/lhlo"]
        whole = judge(scenario, settings, Server("", {}))
        assert whole.verdict is Verdict.PASSED
        result = judge_splits(whole, settings, Server("", {}), Level.MUST, time.monotonic())
    assert (result.verdict, result.came) == (Verdict.FAILED, "the time was over at octet 1 of 24")


def test_what_has_not_begun_in_time_is_absent() -> None:
    """A run ends, whatever the server does."""
    done = judge_small(Session, "session/lhlo", limit=0.0)
    assert only_result(done).came == "the 0 s of --limit are over"


def test_a_server_that_is_gone_is_found() -> None:
    """It may die in the midst of a run."""
    with SmallServer() as server:
        settings = Settings(target=Target(host="127.0.0.1", port=server.port))
    result = judge(SCENARIOS[0], settings, Server("", {}))
    assert (result.verdict, result.expected, result.brief) == (Verdict.FAILED, "a connection", "no connection")


class Silent(Session):
    """It takes connections, and that is all."""

    def serve(self) -> None:
        self.server.is_over.wait()


def test_a_silent_server_is_soon_given_up() -> None:
    """All scenarios are chosen, and none is waited for."""
    before = time.monotonic()
    done = judge_small(Silent, patience=LITTLE_PATIENCE)
    assert time.monotonic() - before < 5
    assert done.trouble == "the greeting: nothing in time"
    assert done.has_deviations
    assert {result.verdict for result in done.results} == {Verdict.ABSENT}


class SilentAfterTheDot(Session):
    """It never says what became of a message, and never reads again."""

    def finish(self, size: int) -> None:
        self.server.is_over.wait()


def test_silence_after_the_dot_is_found() -> None:
    """RFC 2033 §4.2"""
    result = only_result(judge_small(SilentAfterTheDot, "final/one-recipient", patience=LITTLE_PATIENCE))
    assert result.came == "nothing within 0.3 s; to NOOP: nothing in time"


class EndlessLine(Session):
    """It never comes to the point."""

    def do_NOOP(self, argument: bytes) -> None:
        while not self.server.is_over.is_set():
            self.socket.sendall(b"250 " + b"x" * 60000)


def test_an_endless_line_is_found() -> None:
    """And not kept."""
    result = only_result(judge_small(EndlessLine, "session/noop-before-lhlo"))
    assert result.came == "an endless line: more than 4096 octets without its end"


class EndlessReply(Session):
    """It never comes to its last line."""

    def do_NOOP(self, argument: bytes) -> None:
        while not self.server.is_over.is_set():
            self.socket.sendall(b"250-x\r\n" * 1000)


def test_an_endless_reply_is_found() -> None:
    """And not kept."""
    result = only_result(judge_small(EndlessReply, "session/noop-before-lhlo"))
    assert result.came == "an endless reply: more than 200 lines"


class Drips(Session):
    """An octet now and then, so that something always comes."""

    def do_NOOP(self, argument: bytes) -> None:
        while not self.server.is_over.wait(0.05):
            self.socket.sendall(b"2")


def test_a_reply_that_drips_has_its_deadline() -> None:
    """It is that of the reply, not of each octet."""
    before = time.monotonic()
    result = only_result(judge_small(Drips, "session/noop-before-lhlo", patience=LITTLE_PATIENCE))
    assert time.monotonic() - before < 5
    assert result.came.startswith("nothing within 0.3 s")


def test_replies_that_are_all_slow_come_to_an_end() -> None:
    """Each has its deadline, and the session has one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"250 OK\r\n" * 3)
        connection = Connection(ours, patience=60.0, limit=0.2)
        assert [connection.read_reply().code for _ in range(3)] == [250, 250, 250]
        with pytest.raises(Silence):
            connection.read_reply()


class NeverReads(Session):
    """It takes nothing of a message, and that may be a large one."""

    capabilities = ("PIPELINING", "SIZE 10000000")

    def content(self) -> bytes:
        self.server.is_over.wait()
        return b""


def test_a_server_that_does_not_read_is_given_up() -> None:
    """RFC 5321 §4.5.3.2.5"""
    before = time.monotonic()
    result = only_result(judge_small(NeverReads, "size/over-the-limit", patience=LITTLE_PATIENCE))
    assert time.monotonic() - before < 5
    assert (result.verdict, result.expected) == (Verdict.FAILED, "to be read")
    assert result.came.startswith("does not read: ")


class ClosesInContent(Session):
    """It hangs up on a large message."""

    capabilities = ("PIPELINING", "SIZE 10000000")

    def content(self) -> bytes:
        self.receive()
        raise Gone


def test_closing_while_content_is_sent_is_found() -> None:
    """What is still to be sent is no reason to stop judging."""
    result = only_result(judge_small(ClosesInContent, "size/over-the-limit"))
    assert (result.expected, result.came) == ("5xx (552 5.3.4) for alice@example.org", "closed")


class GreetsOnce(Session):
    """It is overrun by a second session."""

    def greet(self) -> None:
        if self.server.is_over.is_set() or getattr(self.server, "has_greeted", False):
            self.say("421 4.3.2 Too many")
            raise Gone
        self.server.has_greeted = True  # type: ignore[attr-defined]
        super().greet()


def test_a_session_that_does_not_begin_is_found() -> None:
    """Though the first one did."""
    result = only_result(judge_small(GreetsOnce, "session/rcpt-without-mail"))
    assert (result.expected, result.came) == ("a session, up to session", "the greeting: 421 4.3.2: 421 4.3.2 Too many")


class ClosesEarly(Session):
    """It hangs up where it owes replies."""

    def finish(self, size: int) -> None:
        self.final(self.recipients[0], size)
        self.socket.shutdown(2)


def test_closing_early_is_found() -> None:
    """RFC 2033 §4.2"""
    result = only_result(judge_small(ClosesEarly, "final/three-recipients"))
    assert (result.expected, result.came) == ("any for bob@example.org", "closed")


class DoesNotClose(Session):
    """It says goodbye, and stays."""

    def do_QUIT(self, argument: bytes) -> str:
        self.say("221 2.0.0 Bye")
        return ""


def test_a_connection_that_stays_open_behind_quit_is_found() -> None:
    """RFC 5321 §4.1.1.10"""
    result = only_result(judge_small(DoesNotClose, "session/greeting-and-quit", patience=LITTLE_PATIENCE))
    assert (result.expected, result.came) == ("closed", "nothing in time")


class RunsWhatFollowsQuit(DoesNotClose):
    """And listens."""


def test_a_reply_behind_the_end_is_found() -> None:
    """RFC 5321 §4.1.1.10"""
    result = only_result(judge_small(RunsWhatFollowsQuit, "pipelining/nothing-runs-behind-quit"))
    assert (result.expected, result.came) == ("closed", "not closed: 250 2.0.0 OK")


MALFORMED = {
    "250 OK\n": "a reply that ends in a bare LF: 250 OK",
    "hello\r\n": "no reply: hello",
    "999 what\r\n": "no reply: 999 what",
    "250-one\r\n354 two\r\n": "a reply of two codes: 250 and 354 two",
    "2\x1b[2J50 x\r\n": "no reply: 2\\x1b[2J50 x",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_reply_is_found_and_shown_printable(text: str) -> None:
    """RFC 5321 §4.2; and nothing that came reaches a terminal as it is."""

    class Malformed(Session):
        def do_NOOP(self, argument: bytes) -> None:
            self.socket.sendall(text.encode())

    result = only_result(judge_small(Malformed, "session/noop-before-lhlo"))
    assert result.verdict is Verdict.FAILED
    assert result.came == MALFORMED[text]


class SpeaksOutOfTurn(Session):
    """One that answers what it was not asked."""

    def do_LHLO(self, argument: bytes) -> None:
        super().do_LHLO(argument)
        self.say("250 2.0.0 And another thing")


def test_a_reply_that_nobody_asked_for_is_found() -> None:
    """RFC 5321 §4.2"""
    result = only_result(judge_small(SpeaksOutOfTurn, "session/lhlo"))
    assert (result.expected, result.came) == ("221 to QUIT at the end", "250 2.0.0 OK")


class LongReplies(Session):
    """Recipients of any length in replies."""

    def final(self, recipient: str, size: int) -> None:
        self.say(f"250 2.0.0 <{recipient}> {'x' * 400}")


def test_a_reply_over_512_octets_is_found() -> None:
    """RFC 5321 §4.5.3.1.5"""
    result = only_result(judge_small(LongReplies, "final/a-reply-fits-into-512-octets"))
    assert (result.verdict, result.expected) == (Verdict.FAILED, "any short")


class NoRecipients(Session):
    """It takes mail for nobody that the user has named."""

    def do_RCPT(self, argument: bytes) -> None:
        self.say("550 5.1.1 Unknown")


def test_recipients_that_are_refused_are_said_to_be() -> None:
    """A user who named the wrong ones has to see it."""
    result = only_result(judge_small(NoRecipients, "final/three-recipients"))
    assert (result.expected, result.came) == ("250", "550 5.1.1 Unknown")
    assert "C: RCPT TO:<alice@example.org>\\r\\n" in result.transcript


class TakesEverything(Session):
    """No sender is bad to it."""

    def do_MAIL(self, argument: bytes) -> None:
        self.has_sender = True
        self.say("250 2.1.0 OK")


def test_what_cannot_be_seen_is_absent() -> None:
    """Whether a refused MAIL begins a transaction is not seen where none is refused."""
    result = only_result(judge_small(TakesEverything, "session/a-refused-mail-begins-no-transaction"))
    assert result.verdict is Verdict.ABSENT
    assert result.came == "it was answered 250 2.1.0, so there is nothing to judge"


class HangsUp(Session):
    """It answers no bare LF."""

    def line(self) -> bytes:
        line = super().line()
        if b"\n" in line:
            raise Gone
        return line


def test_an_end_that_is_as_good_is_passed(tmp_path: Path) -> None:
    """Or where it says nothing, absent."""
    file = tmp_path / "mine.txt"
    begin = "RFC: 5321\nLevel: MUST\nC| FROB\\nNOOP\\r\\n\n"
    file.write_text(f"= mine/end\n{begin}E: closed\nS: 500\n= mine/absence\n{begin}A: closed\nS: 500\n")
    with SmallServer(HangsUp) as server:
        settings = Settings(target=Target(host="127.0.0.1", port=server.port))
        results = [judge(scenario, settings, Server("", {})) for scenario in read_scenarios([file])]
    assert [result.verdict for result in results] == [Verdict.PASSED, Verdict.ABSENT]
    assert results[1].came == "it was closed, so there is nothing to judge"


def test_what_would_have_done_is_said_where_nothing_comes() -> None:
    """Not only the end that would have been as good."""
    name = "session/vrfy-without-an-argument"

    class Mute(Session):
        def do_VRFY(self, argument: bytes) -> None:
            self.server.is_over.wait()

    result = only_result(judge_small(Mute, name, level=Level.SHOULD, patience=LITTLE_PATIENCE))
    assert result.expected == "501 (501 5.5.4)"
    assert result.came == "nothing within 0.3 s; to NOOP: nothing in time"


def test_what_is_not_announced_is_absent() -> None:
    """Neither failed nor passed."""
    result = only_result(judge_small(Session, "smtputf8/sender"))
    assert (result.verdict, result.came) == (Verdict.ABSENT, "SMTPUTF8 is not announced")
