"""``lmtp:``: its description, which server a recipient belongs to, and what is a loop."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address, UNIXAddress

from lmtp_twisted import Address, BareNewlines, PermanentFailure, SessionInfo
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.relay.backend import RelayBackend, attributes_of
from lmtp_twisted.backends.relay.loops import MAX_PASSES, LoopGuard
from lmtp_twisted.backends.relay.shards import Shards
from lmtp_twisted.client import External, Password, Security, Token
from lmtp_twisted.session import Link
from lmtp_twisted.testing import FakePool, FakeReactor


def build(description: str) -> Any:
    """The backend of a description."""
    context = BackendContext(FakeReactor(), FakePool(), "mx.example")  # type: ignore[arg-type]  # a pool of none
    return context.build(description)


def test_a_description_names_servers_and_options(tmp_path: Path) -> None:
    """As an operator writes it."""
    (tmp_path / "password").write_text("s3cret\nnot this\n")
    relay = build(
        "lmtp:unix:/run/a,/run/b,connections=3,timeout=7,connect_timeout=2,retry=9,tls=no,bare_newlines=reject,chunking=no,"
        f"xforward=no,stream=no,case=keep,separator=-,user=judge,password_file={tmp_path}/password,plaintext=yes"
    )
    assert isinstance(relay, RelayBackend)
    assert len(relay.clients) == 2
    settings = relay.clients[0].settings
    assert settings.hostname == "mx.example"
    assert (settings.max_connections, settings.retry_most) == (3, 9)
    assert (settings.timeouts.final, settings.timeouts.connect, settings.timeouts.goodbye) == (7, 2, 5)
    assert settings.security is Security.NONE
    assert settings.bare_newlines is BareNewlines.REJECT
    assert settings.credentials == Password("judge", "s3cret")
    assert settings.allows_plaintext
    assert [settings.uses_chunking, relay.forwards, relay.is_streaming] == [False] * 3
    assert relay.shards.key(Address("Bob-x", "X")) == "Bob@x"


def test_a_login_may_be_a_token_or_a_certificate(tmp_path: Path) -> None:
    """RFC 4422."""
    (tmp_path / "token").write_text("t0ken\n")
    token = build(f"lmtp:/run/a,user=judge,token_file={tmp_path}/token").clients[0].settings.credentials
    assert token == Token("judge", "t0ken")
    assert "t0ken" not in repr(token)
    assert External() != token


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("lmtp:", "lmtp: it needs ENDPOINT"),
        ("lmtp:/a,,/b", "lmtp: it needs ENDPOINT"),
        ("lmtp:nonsense", "'nonsense' is no HOST:PORT"),
        ("lmtp:/a,/a", "the same server is named twice"),
        ("lmtp:/a,colour=red", "there is no option 'colour'"),
        ("lmtp:/a,connections=0", "connections is a number above zero"),
        ("lmtp:/a,connections=x", "connections is a number above zero"),
        ("lmtp:/a,timeout=nan", "timeout is a number above zero"),
        ("lmtp:/a,tls=maybe", "tls is auto, no, starttls or tls"),
        ("lmtp:/a,stream=maybe", "stream is yes or no"),
        ("lmtp:/a,separator=a", "separator is punctuation"),
        ("lmtp:/a,ca=/none/there", "/none/there"),
        ("lmtp:/a,ca=/dev/null", "no certificate in PEM"),
        ("lmtp:/a,certificate=/dev/null", "no certificate with its private key"),
        ("lmtp:/a,user=x", "user needs"),
        ("lmtp:/a,password_file=/dev/null", "password_file needs user"),
        ("lmtp:/a,user=x,password_file=/dev/null,token_file=/dev/null", "just one of"),
    ],
)
def test_what_is_wrong_with_a_description_is_one_line(description: str, says: str) -> None:
    """Before the daemon starts."""
    with pytest.raises(ValueError, match=r".") as caught:
        build(description)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_uhashring_several_servers_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One server needs none."""
    monkeypatch.setitem(sys.modules, "uhashring", None)
    build("lmtp:/a")
    with pytest.raises(ValueError, match=r"pip install 'lmtp-twisted\[relay\]'"):
        build("lmtp:/a,/b")


def test_a_server_more_takes_only_its_share() -> None:
    """Consistent hashing: nobody moves from one of the old ones to another of them."""
    names = ["a:24", "b:24", "c:24"]
    before, after = Shards(names), Shards([*names, "d:24"])
    people = [Address(f"user{number}", "example.org") for number in range(2000)]
    moved = [
        (before.place_of(one), after.place_of(one)) for one in people if before.place_of(one) != after.place_of(one)
    ]
    assert {new for _, new in moved} == {3}
    assert 2000 / 8 < len(moved) < 2000 / 2
    shares = Counter(before.place_of(one) for one in people)
    assert min(shares.values()) > 2000 / 6


@given(local=st.text("aB-.é", min_size=1, max_size=8), domain=st.sampled_from(["x", "X.y"]))
def test_all_spellings_of_a_mailbox_belong_to_one_server(local: str, domain: str) -> None:
    """RFC 5321 §2.4, RFC 5233: the case, and the detail."""
    shards = Shards(["a", "b", "c"])
    place = shards.place_of(Address(local, domain))
    assert shards.place_of(Address(f"{local.swapcase()}+detail+more", domain.swapcase())) == place


def test_composed_and_decomposed_letters_and_postmasters_are_one_mailbox() -> None:
    """RFC 6532 §3.1, RFC 5321 §4.5.1: whether the case of other local parts counts or not."""
    for folds_case in (True, False):
        shards = Shards(["a"], folds_case=folds_case)
        assert shards.key(Address("jo\u0308rg+x", "exa\u0308mple")) == shards.key(Address("j\xf6rg", "EX\xc4MPLE"))
        assert shards.key(Address("PostMaster", "x")) == "postmaster@x"
        assert (shards.key(Address("Ann", "x")) == shards.key(Address("ann", "x"))) is folds_case


def received(name: str, message_id: str) -> bytes:
    """A line as ours are."""
    return f"Received: from c ([192.0.2.1])\r\n\tby {name} with UTF8LMTPSA id {message_id};\r\n\tdate\r\n".encode()


def test_a_message_that_names_one_under_way_is_a_loop() -> None:
    """RFC 5321 §6.3: as long as it is under way, and in a line of ours only."""
    guard = LoopGuard("mx.example")
    head = b"Subject: x\r\n" + received("other.example", "abc.1") + b"\r\n"
    guard.check(head)
    guard.begin("abc.1")
    guard.begin("abc.1")
    guard.end("abc.1")
    guard.check(b"Received: by mx.example with ESMTP id abc.1; date\r\n")
    guard.check(b"X-Received: by mx.example with LMTP id abc.1; date\r\n")
    with pytest.raises(PermanentFailure, match="Mail loop"):
        guard.check(head)
    guard.end("abc.1")
    guard.check(head)


def test_a_message_that_was_here_too_often_is_a_loop() -> None:
    """RFC 5321 §6.3: whoever queued it between."""
    guard = LoopGuard("MX.example")
    lines = [received("mx.EXAMPLE", f"abc.{number}") for number in range(MAX_PASSES + 1)]
    guard.check(b"".join(lines[1:]))
    with pytest.raises(PermanentFailure, match="Mail loop"):
        guard.check(b"".join(lines))


def test_what_xforward_says_of_a_client() -> None:
    """Postfix's XFORWARD_README."""
    peer = IPv6Address("TCP", "2001:db8::1", 4000)
    session = SessionInfo(peer, peer, lhlo_name="c.example", xclient={"NAME": "n.example"})
    assert attributes_of(session, "id.1") == {
        "NAME": "n.example",
        "ADDR": "IPV6:2001:db8::1",
        "PORT": "4000",
        "PROTO": "LMTP",
        "HELO": "c.example",
        "IDENT": "id.1",
        "SOURCE": "REMOTE",
    }
    local = SessionInfo(UNIXAddress(b"/s"), UNIXAddress(b"/s"), link=Link.UNIX)
    found = attributes_of(local, "id.1")
    assert (found["ADDR"], found["PORT"], found["HELO"], found["SOURCE"]) == (None, None, None, "LOCAL")
