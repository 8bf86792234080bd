"""The inbox of a running server, as programs ask it."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from http.client import HTTPConnection
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from hostile_mail import SCRIPTS, harmful

from lmtp_twisted.daemon.inbox.decoding import body_of
from lmtp_twisted.testing import InboxServer

HELLO = b"From: a@example.net\r\nSubject: Hello\r\n\r\nHello!\r\n"


@pytest.fixture(scope="module")
def running() -> Iterator[InboxServer]:
    options = ("--route", "*@second.example=memory:,keep=50", "--hostname", "mx.example.org", "--size-limit", "64M")
    with InboxServer("memory:", *options) as server:
        yield server


@pytest.fixture
def server(running: InboxServer) -> InboxServer:
    running.clear()
    return running


def send(server: InboxServer, *recipients: str, content: bytes = HELLO, options: str = "") -> list[bytes]:
    """Send a message; its final replies."""
    with smtplib.LMTP(server.host, server.port, "client.example") as client:
        client.ehlo()
        client.docmd(f"MAIL FROM:<a@example.net>{options}")
        for recipient in recipients:
            client.docmd(f"RCPT TO:{recipient}")
        assert client.docmd("DATA")[0] == 354
        client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return [client.getreply()[1] for _ in recipients]


def ask(server: InboxServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers by their names in lower case, and the body."""
    connection = HTTPConnection(server.host, server.web, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_it_tells_what_has_come(server: InboxServer) -> None:
    replies = send(server, "<b@example.org> NOTIFY=NEVER", "<c@example.org>", options=" SIZE=100 ENVID=x+2By")
    (message,) = server.messages
    assert (message["from"], message["to"]) == ("a@example.net", ["b@example.org", "c@example.org"])
    assert (message["subject"], message["size"], message["backend"]) == ("Hello", len(HELLO), "memory 2")
    read = server.read(message)
    assert read["sender"] == {"address": "a@example.net", "parameters": {"SIZE": 100, "ENVID": "x+y"}}
    assert [recipient["parameters"] for recipient in read["recipients"]] == [{"NOTIFY": "NEVER"}, {}]
    assert [recipient["reply_id"] for recipient in read["recipients"]] == [
        reply.decode().split()[2] for reply in replies
    ]
    assert [recipient["reply"] for recipient in read["recipients"]] == ["250 2.0.0 Delivered"] * 2
    assert (read["peer"], read["lhlo_name"], read["tls"], read["user"]) == ("127.0.0.1", "client.example", None, None)
    assert read["text"] == "Hello!\n"
    assert read["trace"].startswith("Return-Path: <a@example.net>\r\nReceived: from client.example ")
    assert server.raw(message) == HELLO


def test_messages_of_several_backends_are_listed_with_their_labels(server: InboxServer) -> None:
    """One message may be in two of them."""
    send(server, "<b@example.org>", "<c@second.example>")
    first, second = sorted(server.messages, key=lambda message: str(message["backend"]))
    assert (first["backend"], second["backend"]) == ("memory", "memory 2")
    assert first["key"] != second["key"]
    assert {server.read(message)["recipients"][0]["reply_id"][-1] for message in (first, second)} == {"1", "2"}


def test_what_is_wanted_can_be_said(server: InboxServer) -> None:
    send(server, "<b@example.org>")
    send(server, "<c@example.org>", content=b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n")
    for wanted, to in (({"to": "B@example"}, "b"), ({"subject": "grüße"}, "c"), ({"sender": "a@", "to": "c@"}, "c")):
        (message,) = server.wait(**wanted)
        assert message["to"] == [f"{to}@example.org"]
    with pytest.raises(TimeoutError):
        server.wait(to="nobody", seconds=0)


def test_one_can_wait_for_a_message_to_come(server: InboxServer) -> None:
    found: list[Any] = []
    waiting = Thread(target=lambda: found.extend(server.wait(count=2, seconds=20)))
    waiting.start()
    send(server, "<b@example.org>")
    send(server, "<c@example.org>")
    waiting.join(25)
    assert len(found) == 2


def test_waiting_ends_with_its_time(server: InboxServer) -> None:
    began = monotonic()
    status, _, body = ask(server, "/inbox.json?to=nobody&wait=1")
    assert (status, json.loads(body)["count"]) == (200, 0)
    assert 0.9 < monotonic() - began < 10


def test_a_change_can_be_waited_for(server: InboxServer) -> None:
    revision = json.loads(ask(server, "/inbox.json")[2])["revision"]
    send(server, "<b@example.org>")
    assert json.loads(ask(server, f"/inbox.json?after={revision}&wait=30")[2])["revision"] != revision


def test_who_does_not_wait_for_the_end_leaves_nothing(server: InboxServer) -> None:
    for _ in range(60):
        connection = HTTPConnection(server.host, server.web, timeout=30)
        connection.request("GET", "/inbox.json?to=nobody&wait=60")
        connection.close()
    assert json.loads(ask(server, "/inbox.json?wait=1&to=nobody")[2])["count"] == 0


def test_all_can_be_forgotten_but_by_no_page_of_strangers(server: InboxServer) -> None:
    """A browser sends DELETE of another site's page only where an answer to OPTIONS allows it (Fetch, CORS)."""
    send(server, "<b@example.org>")
    (message,) = server.messages
    for method in ("OPTIONS", "POST", "PUT"):
        status, headers, _ = ask(server, "/inbox.json", method, Origin="http://evil.example")
        assert status >= 400
        assert not any(name.startswith("access-control") for name in headers)
    assert len(server.messages) == 1
    assert json.loads(ask(server, "/inbox.json", "DELETE")[2]) == {"forgotten": 1}
    assert server.messages == []
    with pytest.raises(LookupError, match="404"):
        server.read(message)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_a_browser_that_does_not_ask_first_deletes_nothing_for_strangers(
    server: InboxServer, headers: dict[str, str]
) -> None:
    """Fetch Metadata §2.3; RFC 6454 §7."""
    send(server, "<b@example.org>")
    assert ask(server, "/inbox.json", "DELETE", **headers)[0] == 403
    assert len(server.messages) == 1


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_page_may_delete(server: InboxServer, site: str) -> None:
    host = f"localhost:{server.web}"
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": site}
    assert ask(server, "/inbox.json", "DELETE", **headers)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "mail.localhost.evil.example:80", "127.0.0.1.nip.io"])
def test_a_name_of_strangers_leads_nowhere(server: InboxServer, host: str) -> None:
    """A page whose name was made to lead here ("DNS rebinding") must not read mail, nor delete it."""
    for path, method in (("/inbox", "GET"), ("/inbox.json", "GET"), ("/inbox.json", "DELETE"), ("/inbox/x", "GET")):
        assert ask(server, path, method, Host=host)[0] == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8025", "[::1]:8025", "localhost:8025"])
def test_names_that_are_ours_lead_here(server: InboxServer, host: str) -> None:
    assert ask(server, "/inbox", Host=host)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["x", "x.json", "x/raw", "{}/parts/99", "{}/parts/-1", "{}/parts/x", "{}/html/0", "{}/../x", "{}/raw/x", "{}/x"],
)
def test_what_is_not_there_is_not_found(server: InboxServer, path: str) -> None:
    send(server, "<b@example.org>")
    assert ask(server, f"/inbox/{path.format(server.messages[0]['key'])}")[0] == 404


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "count=x", "too=x"])
def test_what_is_asked_wrong_is_said(server: InboxServer, query: str) -> None:
    assert ask(server, f"/inbox.json?{query}")[0] == 400


def test_nothing_that_came_by_mail_is_shown_as_what_it_says_it_is(server: InboxServer) -> None:
    """Not one answer is a document of our origin with something of the mail that could run in it."""
    for script in SCRIPTS:
        send(server, "<b@example.org>", content=harmful(1, script))
    for message in server.messages:
        key, read = message["key"], server.read(message)
        for part in read["parts"]:
            status, headers, _ = ask(server, f"/inbox/{key}/parts/{part['number']}")
            assert (status, headers["content-type"]) == (200, "application/octet-stream")
            assert headers["content-disposition"].startswith('attachment; filename="')
            assert headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in headers["content-security-policy"]
            assert not {"/", "\\"} & set(headers["content-disposition"])
        _, headers, body = ask(server, f"/inbox/{key}/raw")
        assert (headers["content-type"], headers["x-content-type-options"]) == ("text/plain; charset=utf-8", "nosniff")
        assert body == harmful(1, script) or b"Subject" in body
        _, headers, _ = ask(server, f"/inbox/{key}/html/{read['html_part']}")
        assert headers["content-security-policy"].startswith("sandbox; default-src 'none'; img-src data:;")
        _, headers, _ = ask(server, f"/inbox/{key}")
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert ask(server, f"/inbox/{key}.json")[1]["content-type"] == "application/json"
        assert {ask(server, f"/inbox/{key}")[1]["cache-control"] for _ in "1"} == {"no-store"}


def test_attachments_come_as_they_were(server: InboxServer) -> None:
    send(server, "<b@example.org>", content=harmful(1))
    (message,) = server.messages
    svg = next(part for part in server.read(message)["parts"] if part["content_type"] == "image/svg+xml")
    assert svg["file_name"] == "../../picture.svg"
    assert server.part(message, svg["number"]).startswith(b"<svg")
    _, headers, _ = ask(server, f"/inbox/{message['key']}/parts/{svg['number']}")
    assert headers["content-disposition"] == (
        "attachment; filename=\"_.._picture.svg\"; filename*=UTF-8''_.._picture.svg"
    )


def test_a_large_message_is_read_in_pieces_and_does_not_hold_up_mail(server: InboxServer) -> None:
    content = b"Subject: large\r\n\r\n" + b"x" * 70 * 1024 + b"\r\n"
    content += (b"0123456789abcdef" * 64 + b"\r\n") * 20_000
    send(server, "<b@example.org>", content=content)
    (message,) = server.wait(to="b@example.org")
    assert server.raw(message) == content
    assert "KiB of text" in server.read(message)["defects"][0]


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "7bit"])
def test_a_large_part_comes_whole(server: InboxServer, encoding: str) -> None:
    """It is decoded in the blocks in which it is read."""
    lines = {"base64": b"YWJj" * 19, "quoted-printable": b"=61=62=\r\n=63" * 6, "7bit": b"abc" * 25}
    head = f"Content-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    body = (lines[encoding] + b"\r\n") * 40_000
    send(server, "<b@example.org>", content=head + body)
    assert server.part(server.messages[0], 0) == body_of(body, encoding)


def test_a_HEAD_has_no_body(server: InboxServer) -> None:
    status, headers, body = ask(server, "/inbox", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 100


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="refuse, defer"), InboxServer("faults:nonsense"):
        pass


def test_faults_stand_before_the_inbox() -> None:
    with InboxServer("faults:defer,every=2") as server:
        first, second = send(server, "<b@example.org>", "<c@example.org>")
        assert b"Deferred on purpose" not in first
        assert b"Deferred on purpose" in second
        assert [message["to"] for message in server.messages] == [["b@example.org"]]


def test_a_server_that_keeps_nothing_has_an_empty_inbox() -> None:
    with InboxServer("null:") as server:
        send(server, "<b@example.org>")
        assert json.loads(ask(server, "/inbox.json")[2])["backends"] == []
        assert b"--backend memory:" in ask(server, "/inbox")[2]
