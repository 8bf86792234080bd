"""
What an application of twisted.mail has: a delivery, its messages, a factory of deliveries, and a server for them. Each
remembers its calls in a form that can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.mail import smtp
from zope.interface import implementer

from lmtp_twisted import LMTPFactory
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor, fake_spool
from lmtp_twisted.twisted_mail import adapt

DOMAIN = b"mx.example"
LHLO = "LHLO client.example"
MAIL = "MAIL FROM:<ann@example.net>"


def says(answer: Any) -> Any:
    """An answer of a script: a callable is called, an exception raised, anything else returned."""
    if callable(answer):
        answer = answer()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _as_it_is(value: Any) -> Any:
    return value


@implementer(smtp.IMessage)
class Letter:
    """One recipient's message. ``script`` may hold answers for its methods."""

    def __init__(self, name: str, calls: list[Any], script: Mapping[str, Any]) -> None:
        self.name = name
        self.calls = calls
        self.script = script
        self.lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.calls.append(("lineReceived", self.name, line))
        self.lines.append(line)
        says(self.script.get("lineReceived"))

    def eomReceived(self) -> Any:
        self.calls.append(("eomReceived", self.name))
        return says(self.script["eomReceived"]) if "eomReceived" in self.script else succeed(None)

    def connectionLost(self) -> None:
        self.calls.append(("connectionLost", self.name))
        says(self.script.get("connectionLost"))


@implementer(smtp.IMessageDelivery)
class LetterBoxes:
    """
    Takes mail for everyone.

    :param scripts: by local part of a recipient: answers for ``validateTo``, ``make``, ``receivedHeader`` and the
        methods of its message, and in ``wrap`` what becomes of the callable; by ``"sender"``: for ``validateFrom``.
    """

    def __init__(self, **scripts: Mapping[str, Any]) -> None:
        self.scripts = scripts
        self.calls: list[Any] = []
        self.users: list[smtp.User] = []
        self.letters: dict[str, Letter] = {}

    def validateFrom(self, helo: tuple[bytes, bytes], origin: smtp.Address) -> Any:
        self.calls.append(("validateFrom", helo, vars(origin).copy()))
        script = self.scripts.get("sender", {})
        return says(script["validateFrom"]) if "validateFrom" in script else origin

    def validateTo(self, user: smtp.User) -> Any:
        self.calls.append(("validateTo", str(user), vars(user.dest).copy(), user.helo, vars(user.orig).copy()))
        self.users.append(user)
        name = user.dest.local.decode()
        script = self.scripts.get(name, {})

        def make() -> Letter:
            self.calls.append(("make", name))
            says(script.get("make"))
            self.letters[name] = Letter(name, self.calls, script)
            return self.letters[name]

        answer = says(script.get("validateTo"))
        return script.get("wrap", _as_it_is)(make) if answer is None else answer

    def receivedHeader(self, helo: tuple[bytes, bytes], origin: smtp.Address, recipients: list[smtp.User]) -> Any:
        names = [str(user) for user in recipients]
        self.calls.append(("receivedHeader", helo, str(origin), names))
        script = self.scripts.get(recipients[0].dest.local.decode(), {})
        if "receivedHeader" in script:
            return says(script["receivedHeader"])
        return b"Received: from %s ([%s])\n\tfor %s" % (*helo, names[0].encode())

    def names(self) -> list[Any]:
        """The calls of messages, without their arguments but the message's name."""
        return [call[:2] for call in self.calls if call[0] in ("make", "lineReceived", "eomReceived", "connectionLost")]


@implementer(smtp.IMessageDeliveryFactory)
class LetterBoxFactory:
    """A new :class:`LetterBoxes` for each message, or what it is told to answer."""

    def __init__(self, answer: Any = None, *, scripted: bool = False) -> None:
        self.answer = answer
        self.scripted = scripted
        self.given: list[LetterBoxes] = []

    def getMessageDelivery(self) -> Any:
        if self.scripted:
            return says(self.answer)
        self.given.append(LetterBoxes())
        return self.given[-1]


class LMTP:
    """
    A session with our server, past LHLO.

    :param pool: reads and writes files; by default at once.
    :param limits: of the :class:`~lmtp_twisted.spool.Spool`.
    """

    def __init__(self, backend: Any, pool: FakePool | None = None, **limits: Any) -> None:
        self.reactor = FakeReactor()
        adapted = adapt(backend, domain=DOMAIN, reactor=self.reactor)
        spool = fake_spool(self.reactor, pool, **limits)
        self.client = Conversation(LMTPFactory(backend=adapted, reactor=self.reactor, spool=spool))
        self.client.say(LHLO)

    def say(self, *lines: str) -> list[str]:
        """Send commands; the replies."""
        return self.client.say(*lines)

    def mail(self, *recipients: str, content: bytes = b"Subject: Hi\r\n\r\nHello\r\n") -> list[str]:
        """Send a message up to its last chunk; the final replies that came."""
        accepted = self.say(MAIL, *(f"RCPT TO:<{recipient}>" for recipient in recipients))
        assert [reply[:3] for reply in accepted] == ["250"] * (1 + len(recipients))
        return self.client.send(b"BDAT %d LAST\r\n%s" % (len(content), content))


def codes(replies: list[str]) -> list[str]:
    """The codes of replies, enhanced ones too."""
    return [" ".join(reply.split()[:2]) for reply in replies]


def smtp_dialogue(
    protocol: type[smtp.SMTP], commands: list[bytes], *, delivery: Any = None, factory: Any = None
) -> bytes:
    """
    The same commands to a server of twisted.mail.

    :returns: its output.
    """
    server = smtp.SMTPFactory()
    server.protocol = protocol
    server.domain = DOMAIN
    session = server.buildProtocol(None)
    session.delivery, session.deliveryFactory = delivery, factory
    session.noisy = False
    session.callLater = Clock().callLater
    transport = StringTransport()
    session.makeConnection(transport)
    for command in commands:
        session.dataReceived(command)
    return transport.value()
