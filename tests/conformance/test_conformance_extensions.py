"""The kit against small servers with TLS, AUTH, XCLIENT and PROXY: right ones, and others that are wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl

import pytest
import trustme
from judging import LITTLE_PATIENCE, failed, judge_small, only_result
from small_server import Session

from lmtp_twisted.conformance.result import Verdict
from lmtp_twisted.conformance.scenario import Level

CA = trustme.CA()
USER = {"user": "judge", "password": "secret", "token": "abc"}


@pytest.fixture(scope="module")
def context() -> ssl.SSLContext:
    """That of a server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost").configure_cert(made)
    return made


class Secure(Session):
    """It has STARTTLS, and forgets what came in the clear."""

    is_secure = False

    def do_LHLO(self, argument: bytes) -> None:
        if not self.is_secure:
            self.capabilities = (*Session.capabilities, "STARTTLS")
        else:
            self.capabilities = Session.capabilities
        super().do_LHLO(argument)

    def do_STARTTLS(self, argument: bytes) -> str:
        if argument:
            self.say("501 5.5.4 No argument")
        elif self.is_secure or self.has_sender:
            self.say("503 5.5.1 Not now")
        elif self.buffer:
            return self.something_follows()
        else:
            self.say("220 2.0.0 Go on")
            self.shake_hands()
        return ""

    def something_follows(self) -> str:
        self.say("503 5.5.1 Nothing may follow")
        return "over"

    def shake_hands(self) -> None:
        assert self.server.context is not None
        self.socket = self.server.context.wrap_socket(self.socket, server_side=True)
        self.is_secure = True
        self.has_lhlo = False
        self.forget()


class Implicit(Secure):
    """TLS from the first octet."""

    def serve(self) -> None:
        self.shake_hands()
        super().serve()


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
def test_a_server_that_is_right_about_tls_is_not_accused(context: ssl.SSLContext, tls: str) -> None:
    """RFC 3207"""
    session = Implicit if tls == "implicit" else Secure
    done = judge_small(session, "starttls/*", "final/*", level=Level.SHOULD, context=context, tls=tls)
    assert failed(done) == {}
    passed = {result.scenario.name for result in done.results if result.verdict is Verdict.PASSED}
    assert ("starttls/nothing-runs-behind-it" if tls == "none" else "starttls/under-tls") in passed


class RunsItInTheClear(Secure):
    """What follows STARTTLS is run before the handshake."""

    def something_follows(self) -> str:
        self.say("220 2.0.0 Go on")
        self.line()
        self.say("250 2.0.0 OK")
        self.shake_hands()
        return ""


class RunsItUnderTls(Secure):
    """What follows STARTTLS is run behind the handshake, as if it had come under TLS."""

    def something_follows(self) -> str:
        self.say("220 2.0.0 Go on")
        self.shake_hands()
        return ""


@pytest.mark.parametrize("session", [RunsItInTheClear, RunsItUnderTls])
def test_text_that_was_injected_before_the_handshake_and_run_is_found(
    context: ssl.SSLContext, session: type[Session]
) -> None:
    """RFC 3207 §6"""
    result = only_result(judge_small(session, "starttls/nothing-runs-behind-it", context=context))
    assert (result.verdict, result.level) == (Verdict.FAILED, Level.MUST)


class ThrowsItAway(Secure):
    """What follows STARTTLS is lost: that will do, too."""

    def something_follows(self) -> str:
        self.buffer = b""
        self.say("220 2.0.0 Go on")
        self.shake_hands()
        return ""


class BreaksOff(Secure):
    """What follows STARTTLS makes the handshake fail, as where the TLS library gets it."""

    def something_follows(self) -> str:
        self.say("220 2.0.0 Go on")
        return "over"


@pytest.mark.parametrize("session", [ThrowsItAway, BreaksOff])
def test_text_that_was_injected_and_not_run_is_no_fault(context: ssl.SSLContext, session: type[Session]) -> None:
    """RFC 3207 §6 asks for no more; beyond, the session should end."""
    assert failed(judge_small(session, "starttls/*", context=context)) == {}
    found = failed(judge_small(session, "starttls/*", level=Level.BEYOND, context=context))
    assert found.keys() == {"starttls/what-follows-ends-the-session"}


class RemembersLhlo(Secure):
    """What was said in the clear still holds."""

    def shake_hands(self) -> None:
        super().shake_hands()
        self.has_lhlo = True


def test_a_name_that_is_remembered_from_the_clear_is_found(context: ssl.SSLContext) -> None:
    """RFC 3207 §4.2"""
    assert failed(judge_small(RemembersLhlo, "starttls/*", context=context)).keys() == {"starttls/forgets-lhlo"}


class LeavesTls(Secure):
    """It forgets that it speaks TLS."""

    def shake_hands(self) -> None:
        plain = self.socket.dup()
        super().shake_hands()
        plain.sendall(b"250 2.0.0 In the clear again\r\n")
        plain.close()


def test_octets_in_the_clear_under_tls_are_found(context: ssl.SSLContext) -> None:
    """RFC 3207 §4"""
    result = only_result(judge_small(LeavesTls, "starttls/handshake", context=context))
    assert (result.expected, result.brief) == ("250", "a TLS error")


def test_a_handshake_that_never_comes_is_given_up() -> None:
    """The server has no certificate, and is silent."""

    class Mute(Secure):
        def shake_hands(self) -> None:
            self.server.is_over.wait()

    result = only_result(judge_small(Mute, "starttls/handshake", patience=LITTLE_PATIENCE))
    assert (result.expected, result.came) == ("handshake", "no TLS handshake: not within 0.3 s")


def test_a_certificate_of_another_authority_is_found(
    context: ssl.SSLContext, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the user said who it is to be."""
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    file.write_bytes(trustme.CA().cert_pem.bytes())
    done = judge_small(Secure, "final/one-recipient", context=context, tls="starttls", ca_file=file)
    assert done.trouble.startswith("no TLS handshake: [SSL: CERTIFICATE_VERIFY_FAILED]")
    file.write_bytes(CA.cert_pem.bytes())
    options = {"tls": "starttls", "ca_file": file, "server_name": "localhost"}
    done = judge_small(Secure, "final/one-recipient", context=context, **options)
    assert only_result(done).verdict is Verdict.PASSED


class Login(Session):
    """It has AUTH, with what the kit can speak."""

    capabilities = (*Session.capabilities, "AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2")
    user = ""

    def do_AUTH(self, argument: bytes) -> None:
        words = argument.decode("latin-1").split()
        mechanism = f"auth_{words[0].lower().replace('-', '_')}" if words else ""
        if not self.has_lhlo or self.user or self.has_sender:
            self.say("503 5.5.1 Not now")
        elif not words:
            self.say("501 5.5.4 Which?")
        elif not hasattr(self, mechanism):
            self.say("504 5.5.4 Not that")
        else:
            try:
                self.judge(getattr(self, mechanism)(words[1] if len(words) > 1 else None))
            except ValueError as error:
                self.say(str(error) if str(error)[:3].isdigit() else "501 5.5.2 Bad base64")

    def judge(self, is_right: bool) -> None:
        self.user = "judge" if is_right else ""
        self.say("235 2.7.0 Welcome" if is_right else "535 5.7.8 No")

    def ask(self, challenge: bytes = b"") -> bytes:
        self.say(f"334 {base64.b64encode(challenge).decode()}")
        return self.decoded(self.line().decode("latin-1"))

    def decoded(self, text: str) -> bytes:
        if len(text) > 12288:
            raise ValueError("500 5.5.6 Too long")
        if text == "*":
            raise ValueError("501 5.0.0 Cancelled")
        return base64.b64decode(text, validate=True)

    def first(self, response: str | None) -> bytes:
        return self.ask() if response is None else b"" if response == "=" else self.decoded(response)

    def auth_plain(self, response: str | None) -> bool:
        return self.first(response) == b"\0judge\0secret"

    def auth_login(self, response: str | None) -> bool:
        return (self.ask(b"Username:"), self.ask(b"Password:")) == (b"judge", b"secret")

    def auth_cram_md5(self, response: str | None) -> bool:
        if response is not None:
            raise ValueError("501 5.7.0 We speak first")
        challenge = b"<1.2@small.example>"
        digest = hmac.new(b"secret", challenge, hashlib.md5).hexdigest()
        return self.ask(challenge) == f"judge {digest}".encode()

    def auth_xoauth2(self, response: str | None) -> bool:
        return self.first(response) == b"user=judge\1auth=Bearer abc\1\1"


def test_a_server_that_is_right_about_auth_is_not_accused() -> None:
    """RFC 4954; but for its parameter of MAIL, of which it knows nothing."""
    done = judge_small(Login, "auth/*", level=Level.BEYOND, **USER)
    assert failed(done).keys() == {
        "auth/nobody-on-mail",
        "auth/somebody-on-mail",
        "auth/bad-xtext-on-mail",
        "auth/no-value-on-mail",
    }
    passed = {result.scenario.name for result in done.results if result.verdict is Verdict.PASSED}
    assert {"auth/plain", "auth/login", "auth/cram-md5", "auth/xoauth2", "auth/a-response-over-12288-octets"} <= passed


class Credulous(Login):
    """Whoever tries is right."""

    def judge(self, is_right: bool) -> None:
        super().judge(True)


def test_a_wrong_password_that_is_taken_is_found() -> None:
    """RFC 4954 §6"""
    found = failed(judge_small(Credulous, "auth/*", level=Level.BEYOND, **USER))
    assert {
        "auth/plain-with-a-wrong-password",
        "auth/login-with-a-wrong-password",
        "auth/cram-md5-with-a-wrong-password",
        "auth/xoauth2-with-a-wrong-token",
    } <= found.keys()


class RepeatsIt(Login):
    """It says what it was told."""

    def do_AUTH(self, argument: bytes) -> None:
        self.say(f"500 5.5.1 {argument.decode()}")


def test_a_password_stands_in_no_report() -> None:
    """Neither in what was sent, nor in what came."""
    result = only_result(judge_small(RepeatsIt, "auth/plain", **USER))
    assert result.came == "500 5.5.1 PLAIN [secret]"
    assert result.transcript == ("C: AUTH PLAIN [secret]\\r\\n", "S: 500 5.5.1 PLAIN [secret]")


class WithoutTheBlank(Login):
    """``334`` and nothing else."""

    def ask(self, challenge: bytes = b"") -> bytes:
        self.say("334")
        return self.decoded(self.line().decode("latin-1"))


def test_a_challenge_without_its_blank_is_found() -> None:
    """RFC 4954 §4"""
    names = ("auth/the-challenge-has-its-blank", "auth/plain-without-an-initial-response")
    assert failed(judge_small(WithoutTheBlank, *names, **USER)).keys() == {"auth/the-challenge-has-its-blank"}


class AsksInClear(Login):
    """Its challenge is no base64."""

    def auth_cram_md5(self, response: str | None) -> bool:
        self.say("334 <1.2@small.example>")
        return self.decoded(self.line().decode("latin-1")) == b"judge"


def test_a_challenge_that_is_no_base64_is_answered_all_the_same() -> None:
    """What comes then is judged."""
    result = only_result(judge_small(AsksInClear, "auth/cram-md5", **USER))
    assert (result.verdict, result.came) == (Verdict.FAILED, "535 5.7.8 No")


class CannotBeCancelled(Login):
    """Its ``*`` is a response like any other."""

    def decoded(self, text: str) -> bytes:
        return text.encode()


def test_an_exchange_that_cannot_be_cancelled_is_found() -> None:
    """RFC 4954 §4"""
    result = only_result(judge_small(CannotBeCancelled, "auth/cancelled"))
    assert (result.expected, result.came) == ("501", "535 5.7.8 No")


class OnlyForUsers(Login):
    """No mail without AUTH."""

    def do_MAIL(self, argument: bytes) -> None:
        if self.user:
            super().do_MAIL(argument)
        else:
            self.say("530 5.7.0 Who are you?")


@pytest.mark.parametrize("how", [{"password": "secret"}, {"token": "abc"}])
def test_a_server_that_wants_auth_is_judged_behind_it(how: dict[str, str]) -> None:
    """In each session, with what the user has."""
    options = {"user": "judge", "authenticates": True, "auth_required": True, **how}
    done = judge_small(OnlyForUsers, "final/*", "mail/*", "auth/required*", level=Level.MUST, **options)
    assert failed(done) == {}
    assert sum(result.verdict is Verdict.PASSED for result in done.results) > 15


def test_a_mechanism_that_the_user_leaves_out_is_absent() -> None:
    """``--mechanism`` says which there are to be."""
    result = only_result(judge_small(Login, "auth/plain", mechanisms=("LOGIN",), **USER))
    assert (result.verdict, result.came) == (Verdict.ABSENT, "--mechanism leaves PLAIN out")


class Trusting(Session):
    """It takes XCLIENT."""

    capabilities = (*Session.capabilities, "XCLIENT NAME ADDR")

    def do_XCLIENT(self, argument: bytes) -> None:
        self.has_lhlo = False
        self.forget()
        self.say("220 small.example LMTP")


def test_every_session_can_begin_with_xclient() -> None:
    """And goes on behind it."""
    done = judge_small(Trusting, "final/*", "xclient/back-*", level=Level.BEYOND, xclient="ADDR=192.0.2.1")
    assert failed(done).keys() == {"final/a-loop"}
    assert any(result.scenario.name == "xclient/back-to-the-greeting" for result in done.results)


class BehindProxy(Session):
    """It wants a header of version 1, and closes where there is none."""

    def serve(self) -> None:
        if self.line().startswith(b"PROXY TCP4 192.0.2.1 "):
            super().serve()


def test_every_connection_can_begin_with_a_proxy_header() -> None:
    """And what needs another version is absent."""
    done = judge_small(BehindProxy, "final/*", "proxy/*tcp4", "proxy/no-*", level=Level.BEYOND, proxy=(1,))
    assert failed(done).keys() == {"final/a-loop"}
    verdicts = {result.scenario.name: result.verdict for result in done.results}
    assert verdicts["proxy/no-greeting-before-the-header"] is Verdict.PASSED
    assert verdicts["proxy/v1-tcp4"] is Verdict.PASSED
    assert verdicts["proxy/v2-tcp4"] is Verdict.ABSENT


class Hasty(Session):
    """It greets before the header, and reads that then."""

    def greet(self) -> None:
        super().greet()
        self.line()


def test_a_greeting_before_the_header_is_found() -> None:
    """PROXY protocol §2"""
    name = "proxy/no-greeting-before-the-header"
    result = only_result(judge_small(Hasty, name, level=Level.BEYOND, proxy=(1,)))
    assert (result.verdict, result.came) == (Verdict.FAILED, "no silence: 220 small.example LMTP\\r\\n")
