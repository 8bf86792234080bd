"""What a client may say of who it is, for hypothesis to choose from."""

from __future__ import annotations

from hypothesis import strategies as st
from negotiation_model import CLIENTS, LOGINS, PASSWORD, WRONG, b64, token_of
from session_model import BDAT, DATA, HELLO, MAIL, NAMES, RCPT, RESET, SIMPLE, Command

_USERS = st.sampled_from([b"alice", b"alice", *LOGINS, b"nobody"])
_PASSWORDS = st.sampled_from([PASSWORD, PASSWORD, WRONG])
_MECHANISMS = st.sampled_from([b"PLAIN", b"LOGIN", b"XOAUTH2", b"CRAM-MD5"])
_LINES = st.sampled_from(
    [b"", b"=", b"*", b"NOOP", b"RSET", b"AUTH", b"MAIL FROM:<a@x>", b"not*base64", b"AAA", b"A" * 800, b"A" * 1200]
)


def _auth(mechanism: bytes, *answers: bytes, at_once: bool) -> list[Command]:
    initial = b64(answers[0]) or b"=" if at_once else None
    rest = answers[1:] if at_once else answers
    return [Command("auth", (mechanism, initial)), *(Command("answer", b64(answer)) for answer in rest)]


#: Each the lines of a login, in one go, whatever the server says to them.
LOGIN_LINES = st.one_of(
    st.builds(
        lambda act_as, user, password, at_once: _auth(b"plain", b"\0".join([act_as, user, password]), at_once=at_once),
        st.sampled_from([b"", b"", b"alice", b"bob"]),
        _USERS,
        _PASSWORDS,
        st.booleans(),
    ),
    st.builds(
        lambda user, password, at_once: _auth(b"LOGIN", user, password, at_once=at_once),
        st.one_of(_USERS, st.just(b"")),
        _PASSWORDS,
        st.booleans(),
    ),
    st.builds(
        lambda user, token, at_once, answer: [
            *_auth(b"XOAUTH2", token_of(user, token), at_once=at_once),
            *([] if answer is None else [Command("answer", answer)]),
        ],
        st.sampled_from(list(LOGINS)),
        _PASSWORDS,
        st.booleans(),
        st.one_of(st.none(), st.just(b""), _LINES),
    ),
)
#: Logins that are right, where passwords may be said.
GOOD_LOGIN = st.sampled_from(
    [
        _auth(b"PLAIN", b"\0alice\0" + PASSWORD, at_once=True),
        _auth(b"PLAIN", b"\0alice\0" + PASSWORD, at_once=False),
        _auth(b"LOGIN", b"alice", PASSWORD, at_once=False),
        _auth(b"XOAUTH2", token_of(b"alice", PASSWORD), at_once=True),
    ]
)
#: Logins that are wrong, with the answer to a challenge that says so.
GUESS = st.one_of(
    st.just(_auth(b"PLAIN", b"\0alice\0" + WRONG, at_once=True)),
    st.just(_auth(b"PLAIN", b"bob\0alice\0" + PASSWORD, at_once=True)),
    st.builds(
        lambda line: [*_auth(b"XOAUTH2", token_of(b"alice", WRONG), at_once=True), Command("answer", line)],
        st.sampled_from([b"", b"*", b"RSET", b"A" * 1200]),
    ),
)
#: An AUTH that leads nowhere.
STRAY_AUTH = st.one_of(
    st.builds(
        lambda mechanism, line: [Command("auth", (mechanism, None)), Command("answer", line)], _MECHANISMS, _LINES
    ),
    st.builds(
        lambda mechanism, initial: [Command("auth", (mechanism, initial))],
        st.one_of(_MECHANISMS, st.sampled_from([b"", b"GSSAPI", b"EXTERNAL"])),
        _LINES.filter(lambda line: line and b" " not in line),
    ).filter(lambda commands: bool(commands[0].argument[0])),
    st.just([Command("auth", (b"", None))]),
)
OTHERS = st.one_of(
    st.builds(Command, st.just("xclient"), st.sampled_from(CLIENTS)),
    st.builds(
        Command,
        st.just("xforward"),
        st.sampled_from([(b"ADDR=198.51.100.9 IDENT=x", True), (b"NAME=a", True), (b"PORT=x", False), (b"", False)]),
    ),
    st.builds(Command, st.just("vrfy"), st.sampled_from(NAMES)),
)
#: Whatever a client may say: some commands each.
NEGOTIATION = st.one_of(
    LOGIN_LINES,
    STRAY_AUTH,
    OTHERS.map(lambda command: [command]),
    HELLO.map(lambda command: [command]),
    st.one_of(MAIL, RCPT, BDAT, DATA, RESET, SIMPLE).map(lambda command: [command]),
)
