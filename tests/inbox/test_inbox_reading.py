"""What is read of a message, and how its HTML is made a document."""

from __future__ import annotations

import json
from base64 import b64encode
from email.message import EmailMessage
from email.policy import SMTP

from hostile_mail import SCRIPTS, harmful

from lmtp_twisted.daemon.inbox.decoding import body_of
from lmtp_twisted.daemon.inbox.reading import MOST_HEADERS, MOST_OF_TEXT, html_document, part_of, read_message
from lmtp_twisted.daemon.web.inbox_page import list_page, message_page

PICTURE = b"\x89PNG\r\n\x1a\n-"
FACTS = {
    "key": "k.1",
    "id": "k.1",
    "backend": "memory",
    "received": "2026-01-02T03:04:05.678+00:00",
    "from": "a@example.net",
    "to": ["b@example.org"],
    "subject": "Hello",
    "size": 100,
    "sender": {"address": "a@example.net", "parameters": {"SIZE": 100, "SMTPUTF8": True}},
    "recipients": [{"address": "b@example.org", "parameters": {}, "reply_id": "k.1.1", "reply": "250 2.0.0 Delivered"}],
    "peer": "192.0.2.1",
    "lhlo_name": "client",
    "user": None,
    "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"},
    "trace": "Return-Path: <a@example.net>\r\n",
}


def with_picture(subtype: str = "png", octets: bytes = PICTURE) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = "Grüße"
    message.set_content("Hello\n")
    message.add_alternative('<p>Hello</p><img src="cid:here"><img src="cid:nowhere">', subtype="html")
    html = list(message.iter_parts())[1]
    html.add_related(octets, "image", subtype, cid="<here>")  # type: ignore[attr-defined]  # of EmailMessage
    return message.as_bytes()


def test_text_html_and_parts_are_told() -> None:
    read = read_message(FACTS, with_picture())
    assert read["text"] == "Hello\n"
    assert read["html"].startswith("<p>Hello</p>")
    assert read["headers"][0] == ["Subject", "Grüße"]
    assert [part["content_type"] for part in read["parts"]][-2:] == ["text/html", "image/png"]
    assert read["parts"][-1]["content_id"] == "here"
    assert read["lhlo_name"] == "client"
    assert json.loads(json.dumps(read)) == read


def test_attachments_are_no_text() -> None:
    message = EmailMessage(policy=SMTP)
    message.add_attachment("not this", filename="a.txt")
    message.add_attachment("<p>", subtype="html", filename="a.html")
    read = read_message(FACTS, message.as_bytes())
    assert (read["text"], read["html"], read["html_part"]) == (None, None, None)


def test_pictures_that_come_with_html_are_part_of_its_document() -> None:
    """RFC 2392. What names nothing stays, and names nothing in a browser either."""
    document = html_document(with_picture(), 3)
    assert document is not None
    assert b'<img src="data:image/png;base64,' + b64encode(PICTURE) + b'">' in document
    assert b'<img src="cid:nowhere">' in document


def test_only_pictures_become_part_of_it() -> None:
    """SVG may hold scripts, and a picture may be too large."""
    for content in (with_picture("svg+xml", b"<svg/>"), with_picture(octets=b"x" * 2_000_000)):
        assert b'"cid:here"' in (html_document(content, 3) or b"")


def test_what_is_no_html_is_no_document() -> None:
    assert html_document(with_picture(), 1) is None
    assert html_document(with_picture(), 99) is None


def test_a_part_is_found() -> None:
    content = with_picture()
    found = part_of(content, 4)
    assert found is not None
    assert body_of(content[found.start : found.end], found.encoding) == PICTURE
    assert part_of(with_picture(), 5) is None


def test_what_is_shown_has_a_bound() -> None:
    content = b"X: y\r\n" * 300 + b"\r\n" + b"word " * 200_000
    read = read_message(FACTS, content)
    assert len(read["text"]) == MOST_OF_TEXT
    assert len(read["headers"]) == MOST_HEADERS
    assert len(read["defects"]) == 2


def test_text_in_a_wrong_charset_is_shown() -> None:
    content = b"Content-Type: text/plain; charset=x-klingon\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    assert read_message(FACTS, content)["text"] == "Grüße\n"


def test_the_page_has_nothing_of_a_message_but_as_text() -> None:
    """Subject, addresses, headers, text, names and types: each a script."""
    for script in SCRIPTS:
        facts = {
            **FACTS,
            "subject": script,
            "from": script,
            "to": [script],
            "sender": {"address": script, "parameters": {"ENVID": script}},
            "recipients": [{"address": script, "parameters": {"ORCPT": script}, "reply_id": script, "reply": script}],
            "lhlo_name": script,
            "peer": script,
            "user": script,
            "backend": script,
            "trace": script,
        }
        read = read_message(facts, harmful(1, script))
        read["parts"][0]["content_type"] = read["parts"][0]["file_name"] = script
        found = {"backends": ["a", script], "revision": script, "count": 1, "messages": [facts]}
        for page in (message_page(read), list_page(found)):
            for wrong in (
                "<script>document",
                "<svg",
                "<img",
                "<iframe srcdoc",
                'onerror="',
                "' onmouseover='",
                "</pre><",
            ):
                assert wrong not in page.replace("</pre></section>", "").replace("</pre></td>", "")
            assert 'href="javascript' not in page


def test_lists_of_nothing_say_so() -> None:
    empty = {"backends": ["memory"], "revision": "", "count": 0, "messages": []}
    assert "No message has come yet" in list_page(empty)
    assert "start it with --backend memory:" in list_page({**empty, "backends": []})
