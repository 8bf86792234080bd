"""
A picture of the states of a session, ``session-states::``. It is made by playing: a session in memory is brought into
each state, every command of the table is said there, and where the session is then is where the arrow leads.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from xml.sax.saxutils import escape

from docutils import nodes
from docutils.parsers.rst import Directive
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ITLSTransport
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import StringTransport
from zope.interface import implementer

import lmtp_twisted.sequence
from lmtp_twisted import LMTPFactory, LMTPProtocol, Settings
from lmtp_twisted.daemon.checkers import BackendRealm
from lmtp_twisted.sequence import SEQUENCE, State
from lmtp_twisted.testing import FakeReactor, ScriptedDeliveries

#: What is said to come to a state, after what leads to the one before it.
WAY: Mapping[State, bytes] = {
    State.START: b"",
    State.READY: b"LHLO client.example\r\n",
    State.SENDER: b"MAIL FROM:<>\r\n",
    State.RECIPIENTS: b"RCPT TO:<alice@example.org>\r\n",
    State.CHUNKS: b"BDAT 2\r\nHi",
}

#: What is said for a verb, by the name that the picture gives it; a verb that is not here needs nothing behind it.
SAID: Mapping[str, bytes] = {
    "LHLO": b"LHLO client.example\r\n",
    "MAIL": b"MAIL FROM:<>\r\n",
    "RCPT": b"RCPT TO:<alice@example.org>\r\n",
    "DATA": b"DATA\r\nHello\r\n.\r\n",
    "BDAT": b"BDAT 2\r\nHi",
    "BDAT LAST": b"BDAT 0 LAST\r\n",
    "AUTH": b"AUTH PLAIN AGFsaWNlAHMzY3JldA==\r\n",
    "XCLIENT": b"XCLIENT NAME=client.example\r\n",
    "XFORWARD": b"XFORWARD NAME=client.example\r\n",
    "VRFY": b"VRFY alice\r\n",
    "EXPN": b"EXPN list\r\n",
}


@implementer(ITLSTransport)
class _Transport(StringTransport):
    """One on which TLS can begin, and says nothing."""

    def startTLS(self, contextFactory: object) -> None:
        pass


class Session:
    """
    A session that was brought into a state.

    :param state: of these.
    """

    def __init__(self, state: State) -> None:
        backend, reactor = ScriptedDeliveries(), FakeReactor()
        portal = Portal(BackendRealm(backend), [InMemoryUsernamePasswordDatabaseDontUse(alice=b"s3cret")])
        settings = Settings(hostname="mx.example.org", trusted=["unix"])
        factory = LMTPFactory(backend, settings=settings, portal=portal, tls=CertificateOptions(), reactor=reactor)
        self.protocol: LMTPProtocol = factory.buildProtocol(None)
        self._transport = _Transport(peerAddress=UNIXAddress(b"/run/lmtp.sock"))
        self.protocol.makeConnection(self._transport)
        for step in State:
            if step <= state:
                self.protocol.dataReceived(WAY[step])
        assert self.state is state
        self._transport.clear()

    @property
    def state(self) -> State:
        """Where it is."""
        return self.protocol._state

    def say(self, name: str) -> list[str]:
        """
        :param name: of :data:`SAID`, or a verb.
        :returns: the lines that came back.
        """
        self.protocol.dataReceived(SAID.get(name, name.encode() + b"\r\n"))
        text: str = self._transport.value().decode()
        return text.split("\r\n")[:-1]


def names() -> list[str]:
    """All that can be said: the verbs of the table, and BDAT's other form."""
    verbs = [verb.decode() for verb in SEQUENCE]
    verbs.insert(verbs.index("BDAT") + 1, "BDAT LAST")
    return verbs


def transitions() -> dict[tuple[State, State], list[str]]:
    """What is accepted and leads from one state to another, as it was played."""
    found: dict[tuple[State, State], list[str]] = {}
    for state in State:
        for name in names():
            if SEQUENCE[name.partition(" ")[0].encode()][state] is not None:
                continue
            session = Session(state)
            session.say(name)
            if session.state is not state:
                found.setdefault((state, session.state), []).append(name)
    return found


_LEFT, _WIDTH, _HEIGHT, _STEP = 130, 130, 40, 110
_CENTRE, _RIGHT = _LEFT + _WIDTH // 2, _LEFT + _WIDTH
_ARROW = 'marker-end="url(#arrow)"'


def drawing(arrows: Mapping[tuple[State, State], list[str]]) -> str:
    """
    The states from top to bottom. What leads on is a straight line down, what leads back a bow: on the left to the
    state before, on the right over any number of them.

    :returns: SVG, in the colours of the page's text.
    """
    parts = []
    for state in State:
        top = state * _STEP + 10
        box = f'x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"'
        parts.append(f'<rect {box} fill="none" stroke="currentColor"/>')
        parts.append(f'<text x="{_CENTRE}" y="{top + 25}" text-anchor="middle" font-weight="bold">{state.name}</text>')
    bows = 0
    for (start, end), labels in sorted(arrows.items(), key=lambda item: abs(item[0][0] - item[0][1])):
        bottom, top = start * _STEP + 10 + _HEIGHT, end * _STEP + 10
        if end > start:
            parts.append(f'<path d="M{_CENTRE} {bottom}V{top - 2}" {_ARROW}/>')
            parts.append(_label(_CENTRE + 8, (bottom + top) / 2 + 4, labels))
        elif end is State.START:
            side, far = bottom - 20, _LEFT - 40
            path = f"M{_LEFT} {side}C{far} {side} {far} {top + 20} {_LEFT - 2} {top + 20}"
            parts.append(f'<path d="{path}" {_ARROW}/>')
            parts.append(_label(far - 2, (side + top + 20) / 2 - 4, labels, "end"))
        else:
            side, far, goal = bottom - 20, _RIGHT + 50 + 65 * bows, top + 8 + 10 * bows
            path = f"M{_RIGHT} {side}C{far} {side} {far} {goal} {_RIGHT + 2} {goal}"
            parts.append(f'<path d="{path}" {_ARROW}/>')
            parts.append(_label(_RIGHT + 14, side + 16, labels))
            bows += 1
    title = "The states of a session, and what leads from one to the other"
    arrow = (
        '<marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="currentColor" stroke="none"/></marker>'
    )
    return (
        f'<svg role="img" viewBox="0 0 440 {len(State) * _STEP - 15}" xmlns="http://www.w3.org/2000/svg" '
        'style="width:100%;max-width:30rem;height:auto;font:14px sans-serif">'
        f'<title>{title}</title><defs>{arrow}</defs><g fill="none" stroke="currentColor">'
        + "".join(part for part in parts if part.startswith("<path"))
        + '</g><g fill="currentColor">'
        + "".join(part for part in parts if not part.startswith("<path"))
        + "</g></svg>"
    )


def _label(x: float, y: float, labels: list[str], anchor: str = "start") -> str:
    lines = "".join(
        f'<tspan x="{x}" dy="{16 if number else 0}">{escape(label)}</tspan>' for number, label in enumerate(labels)
    )
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{lines}</text>'


class SessionStates(Directive):
    """The picture."""

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        for module in (lmtp_twisted.sequence, inspect.getmodule(SessionStates)):
            environment.note_dependency(inspect.getsourcefile(module))
        return [nodes.raw("", drawing(transitions()), format="html")]


def setup(app: object) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("session-states", SessionStates)  # type: ignore[attr-defined]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
