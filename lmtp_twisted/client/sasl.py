"""
The mechanisms of AUTH from the client's side (RFC 4422): what each says to what it is asked. A mechanism is a generator
that yields what to say and is sent the challenges.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Generator
from typing import Any

import attrs


@attrs.frozen
class Password:
    """
    :ivar user: who logs in.
    :ivar password: theirs.
    """

    user: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class Token:
    """
    :ivar user: who logs in.
    :ivar token: an OAuth 2.0 bearer token.
    """

    user: str
    token: str = attrs.field(repr=False)


@attrs.frozen
class External:
    """
    Our certificate says who we are (RFC 4422 appendix A).

    :ivar user: as whom to act, ``""`` for whom it names.
    """

    user: str = ""


Credentials = Password | Token | External

#: Yields what to say, is sent what is asked.
Talk = Generator[bytes, bytes, None]


def _plain(login: Password) -> Talk:
    yield f"\0{login.user}\0{login.password}".encode()


def _login(login: Password) -> Talk:
    yield b""
    yield login.user.encode()
    yield login.password.encode()


def _cram_md5(login: Password) -> Talk:
    challenge = yield b""
    digest = hmac.new(login.password.encode(), challenge, "md5").hexdigest()
    yield f"{login.user} {digest}".encode()


def _xoauth2(login: Token) -> Talk:
    yield f"user={login.user}\x01auth=Bearer {login.token}\x01\x01".encode()
    # Why it failed is told in a challenge, and asks for an answer.
    yield b""


def _external(login: External) -> Talk:
    yield login.user.encode()


@attrs.frozen
class Mechanism:
    """
    :ivar name: as it is announced.
    :ivar credentials: the class of those that it needs.
    :ivar talk: begins the exchange. Where the server speaks first, what it yields first is not said.
    :ivar shows_secret: whether who listens learns the password.
    :ivar speaks_first: whether the client does.
    """

    name: str
    credentials: type
    talk: Callable[[Any], Talk]
    shows_secret: bool
    speaks_first: bool = True


#: The best first, where nobody listens.
MECHANISMS = (
    Mechanism("EXTERNAL", External, _external, False),
    Mechanism("XOAUTH2", Token, _xoauth2, True),
    Mechanism("PLAIN", Password, _plain, True),
    Mechanism("LOGIN", Password, _login, True, False),
    Mechanism("CRAM-MD5", Password, _cram_md5, False, False),
)


def choose(credentials: Credentials, offered: Collection[str], may_show: bool) -> Mechanism | None:
    """
    :param credentials: what there is to log in with.
    :param offered: names of mechanisms.
    :param may_show: whether nobody listens.
    :returns: the best one, if there is any.
    """
    for mechanism in MECHANISMS:
        fits = mechanism.name in offered and isinstance(credentials, mechanism.credentials)
        if fits and (may_show or not mechanism.shows_secret):
            return mechanism
    return None
