"""Who a session is taken for: what a checker proved, what a proxy said, and what neither did."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from lmtp_twisted import LMTPFactory, PermanentFailure, Settings, TemporaryFailure, TLSInfo
from lmtp_twisted.interfaces import IBearerToken, IClientCertificate, ILMTPDeliveryFactory
from lmtp_twisted.testing import Conversation, FakeReactor, ScriptedDeliveries


@implementer(ICredentialsChecker)
class Checker:
    def __init__(self, interface: Any, answer: bytes) -> None:
        self.credentialInterfaces = (interface,)
        self.answer = answer
        self.asked: list[Any] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(credentials)
        return self.answer


@implementer(IRealm)
class Realm:
    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        if self.answer is not None:
            mind.user = avatarId.decode()
            return self.answer()
        return ILMTPDeliveryFactory, ScriptedDeliveries(), lambda: None


def session(checker: Checker, realm: Any = None, **settings: Any) -> tuple[Conversation, LMTPFactory]:
    factory = LMTPFactory(
        backend=ScriptedDeliveries(),
        portal=Portal(realm or Realm(), [checker]),
        reactor=FakeReactor(),
        settings=Settings(hostname="h", auth_insecure=True, **settings),
    )
    client = Conversation(factory, IPv4Address("TCP", "127.0.0.1", 1))
    client.protocol.session.tls = TLSInfo("TLSv1.3", "c", b"DER of the proxy")
    client.say("LHLO c")
    return client, factory


def base64(octets: bytes) -> str:
    return b64encode(octets).decode()


def test_the_user_is_whom_the_checker_found_and_not_whom_the_client_names() -> None:
    client, _ = session(Checker(IBearerToken, b"bob"))
    client.say("AUTH XOAUTH2 " + base64(b"user=alice\1auth=Bearer token-of-bob\1\1"))
    assert client.protocol.session.user == "bob"


def test_a_certificate_without_a_name_asked_for_has_a_user() -> None:
    client, _ = session(Checker(IClientCertificate, b"mx.example"))
    client.say("AUTH EXTERNAL =")
    assert client.protocol.session.user == "mx.example"


@pytest.mark.parametrize(
    "answer", [lambda: fail(PermanentFailure("no")), lambda: fail(TemporaryFailure("later")), Deferred]
)
def test_a_login_that_fails_in_the_realm_leaves_no_user(answer: Any) -> None:
    client, factory = session(Checker(IUsernamePassword, b"alice"), Realm(answer), delivery_timeout=5)
    client.say("AUTH PLAIN " + base64(b"\0alice\0pw"))
    factory.reactor.advance(6)
    assert client.protocol.session.user is None
    client.lose()


@pytest.mark.parametrize("lines", [["AUTH PLAIN " + base64(b"\0bob\0")], ["AUTH LOGIN", base64(b"bob"), ""]])
def test_an_empty_password_reaches_no_checker(lines: list[str]) -> None:
    """RFC 4616 §2; RFC 4513 §5.1.2 is why it matters."""
    checker = Checker(IUsernamePassword, b"bob")
    client, _ = session(checker)
    assert client.say(*lines)[-1].startswith("501 5.5.2")
    assert checker.asked == []


def test_after_xclient_nobody_is_who_the_proxy_is() -> None:
    """XCLIENT_README: state is that of the greeting, but for TLS and what XCLIENT said."""
    checker = Checker(IClientCertificate, b"proxy")
    client, _ = session(checker, trusted="127.0.0.1", auth_required=True)
    assert client.say("AUTH EXTERNAL =") == ["235 2.7.0 Authenticated"]
    client.say("XFORWARD NAME=old.example", "XCLIENT ADDR=203.0.113.9", "LHLO c")
    assert client.protocol.session.user is None
    assert client.protocol.session.xforward == {}
    assert client.say("MAIL FROM:<>") == ["530 5.7.0 AUTH first"]
    assert client.say("AUTH EXTERNAL =")[0].startswith("504 ")


@pytest.mark.parametrize("command", ["RSET", "LHLO c"])
def test_what_xforward_said_is_gone_with_a_reset(command: str) -> None:
    client, _ = session(Checker(IUsernamePassword, b"bob"), trusted="127.0.0.1")
    client.say("XFORWARD NAME=old.example", command)
    assert client.protocol.session.xforward == {}


def test_unknown_commands_count_where_auth_is_required() -> None:
    client, _ = session(Checker(IUsernamePassword, b"bob"), auth_required=True)
    for _ in range(101):
        client.say("LHLO c", "FOO")
    assert client.is_closed
