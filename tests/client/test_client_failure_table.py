"""Each row of the table in docs/client.rst is so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from failure_tables import rows
from scripted_server import CONTENT, LOST, TIMES, Play, replies
from twisted.internet.address import IPv4Address

from lmtp_twisted import BareNewlines
from lmtp_twisted.client import OutgoingMessage, Password, Security, make_envelope
from lmtp_twisted.wire.parameters import Body, MailParameters

ROWS = rows("client.rst", "failures of the client")
TWO = ("a@x", "b@x")


def _plays(
    *recipients: str, message: Any = CONTENT, answers: Any = None, then: float = 0, **settings: Any
) -> list[str]:
    """What became of them."""
    parameters = settings.pop("parameters", MailParameters())
    sender = settings.pop("sender", "s@y")
    play = Play(answers or {}, timeouts=TIMES, **settings)
    started = play.start(message, envelope=make_envelope(sender, recipients or TWO, parameters))
    play.after(then)
    found = replies(started)
    play.close()
    return found


def _nobody() -> list[str]:
    play = Play()
    play.server.is_down = True
    return play.deliver(CONTENT, *TWO)


def _left_alone() -> list[str]:
    play = Play()
    play.server.is_down = True
    play.deliver(CONTENT, *TWO)
    play.server.is_down = False
    return play.deliver(CONTENT, *TWO)


def _waiting() -> list[str]:
    play = Play({".": None}, max_connections=1, max_waiting=1)
    play.start(CONTENT, *TWO)
    play.start(CONTENT, *TWO)
    found = play.deliver(CONTENT, *TWO)
    play.close()
    return found


def _closed() -> list[str]:
    play = Play({".": None})
    started = play.start(CONTENT, *TWO)
    play.close()
    return replies(started)


def _once() -> list[str]:
    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENT

    limited = {"LHLO": "250-x\n250 LIMITS RCPTMAX=1"}
    return _plays("a@x", "b@x", message=OutgoingMessage(chunks), answers=limited)[1:]


def _starttls() -> list[str]:
    offers = {"LHLO": "250-x\n250 STARTTLS", "STARTTLS": "220 2.0.0 Go on"}
    # It has no name that a certificate could be for.
    return _plays(answers=offers, peer=IPv4Address("TCP", "192.0.2.1", 24))


PLAYED: dict[str, Callable[[], list[str]]] = {
    "nobody listens": _nobody,
    "nobody listened just now, and the server is left alone": _left_alone,
    "the server does not take connections (421, 554)": lambda: [
        *_plays(answers={"greeting": "421 No"}),
        *_plays(answers={"greeting": "554 No"}),
    ],
    "the server is none of LMTP": lambda: _plays(answers={"LHLO": "500 5.5.1 What?"}),
    "STARTTLS is wanted and not offered": lambda: _plays(security=Security.STARTTLS),
    "the certificate cannot be verified": _starttls,
    "the login is refused": lambda: _plays(
        answers={"LHLO": "250-x\n250 AUTH PLAIN", "AUTH": "535 5.7.8 No"}, credentials=Password("u", "p")
    ),
    "the server is silent for the time of its time-out": lambda: _plays(answers={"DATA": None}, then=TIMES.data),
    "the connection is lost; what was said before still counts": lambda: _plays(answers={".": ("250 2.0.0 Yes", LOST)})[
        1:
    ],
    "the server ends the session (421)": lambda: _plays(answers={"DATA": "421 4.3.2 Bye"}),
    "the server gives fewer final replies: those who have none": lambda: _plays(
        answers={".": "250 2.0.0 Yes"}, then=TIMES.final
    )[1:],
    "the server gives more final replies": lambda: _plays(answers={".": b"250 a\r\n250 b\r\n250 c\r\n"}),
    "the server says what is no reply": lambda: _plays(answers={"DATA": "Hello!"}),
    "too many deliveries wait": _waiting,
    "the client is closed": _closed,
    "the message is larger than the server takes": lambda: _plays(answers={"LHLO": "250-x\n250 SIZE 9"}),
    "the content is 8bit, and the server has no 8BITMIME": lambda: _plays(message=b"\xff", answers={"LHLO": "250 x"}),
    "the content is BINARYMIME, and the server has not both that and CHUNKING": lambda: _plays(
        parameters=MailParameters(body=Body.BINARY_MIME)
    ),
    "the sender needs SMTPUTF8, which the server has not": lambda: _plays(sender="\u00e9@y"),
    "a recipient needs SMTPUTF8, which the server has not: that one": lambda: _plays("\u00e9@x"),
    "REQUIRETLS, and no TLS or a server without it": lambda: _plays(parameters=MailParameters(requiretls=True)),
    "a bare CR or LF that is not to be mended": lambda: _plays(message=b"a\nb", bare_newlines=BareNewlines.REJECT),
    "the message can be read once, and the server takes fewer recipients at a time: the others": _once,
}


def test_every_row_is_played() -> None:
    """And there is nothing that no row says."""
    assert PLAYED.keys() == ROWS.keys()


@pytest.mark.parametrize("what", ROWS)
def test_a_row_of_the_table_of_the_client_is_so(what: str) -> None:
    """For each recipient that it is about."""
    found = PLAYED[what]()
    assert found
    assert {" ".join(reply.split()[:2]) for reply in found} == {ROWS[what]}
