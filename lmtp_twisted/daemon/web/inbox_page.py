"""The pages of the inbox. Whatever came by mail goes through :func:`html.escape`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

Facts = Mapping[str, Any]

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{base}inbox/inbox.css">
{script}</head>
<body>
{body}
</body>
</html>
"""
_SCRIPT = '<script src="inbox/inbox.js" defer></script>\n'


def _text(value: object) -> str:
    """Text that keeps its direction to itself."""
    return f"<bdi>{escape(str(value))}</bdi>"


def _address(address: str) -> str:
    return _text(address) if address else '<span class="muted">&lt;&gt;</span>'


def _size(octets: int) -> str:
    if octets < 1024:
        return f"{octets} B"
    return f"{octets / 1024:.1f} KiB" if octets < 1024 * 1024 else f"{octets / 1024 / 1024:.1f} MiB"


def _time(received: str) -> str:
    return f'<time datetime="{escape(received)}">{escape(received[:19].replace("T", " "))}</time>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th scope=row>{head}</th><td>{cell}</td></tr>\n" for head, cell in rows)
    return f"<table class=facts>\n{lines}</table>"


def list_page(found: Facts) -> str:
    """
    :param found: what ``/inbox.json`` says.
    :returns: the document.
    """
    many = len(found["backends"]) > 1
    head = "".join(f"<th scope=col>{name}</th>" for name in ("Received", "From", "To", "Subject", "Size"))
    rows = "\n".join(_row(message, many) for message in reversed(found["messages"]))
    if found["messages"]:
        backend = "<th scope=col>Backend</th>" if many else ""
        listed = f"<table><thead><tr>{head}{backend}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    elif found["backends"]:
        listed = "<p class=empty>No message has come yet.</p>"
    else:
        listed = "<p class=empty>No backend of this server keeps messages: start it with --backend memory:</p>"
    count = found["count"]
    body = f"""<header>
<h1>Inbox</h1>
<p id=state role=status class=muted data-state=still>{count} message{"" if count == 1 else "s"}</p>
</header>
<main id=messages data-revision="{escape(found["revision"])}">
{listed}
</main>
<footer class=muted><p>Times are UTC. <a href="./">Status</a> · <a href="inbox.json">JSON</a></p></footer>"""
    return _FRAME.format(title=f"Inbox ({count})", base="", script=_SCRIPT, body=body)


def _row(message: Facts, many: bool) -> str:
    to = ", ".join(_address(address) for address in message["to"])
    subject = _text(message["subject"]) if message["subject"] else '<span class="muted">no subject</span>'
    backend = f"<td>{_text(message['backend'])}</td>" if many else ""
    return (
        f"<tr><td class=time>{_time(message['received'])}</td><td>{_address(message['from'])}</td><td>{to}</td>"
        f'<td class=main><a href="inbox/{escape(message["key"])}">{subject}</a></td>'
        f"<td class=number>{_size(message['size'])}</td>{backend}</tr>"
    )


def message_page(message: Facts) -> str:
    """
    :param message: what ``/inbox/KEY.json`` says.
    :returns: the document.
    """
    key = escape(message["key"])
    subject = _text(message["subject"]) if message["subject"] else '<span class="muted">no subject</span>'
    sections: list[str] = []
    if message["defects"]:
        items = "".join(f"<li>{escape(defect)}</li>" for defect in message["defects"])
        sections.append(f"<section class=defects><h2>What is wrong with it</h2><ul>{items}</ul></section>")
    if message["html_part"] is not None:
        # Nothing is allowed to it: no script, no form, no window, not even our origin.
        frame = '<iframe sandbox="" referrerpolicy="no-referrer" title="HTML of the message" '
        sections.append(f'<section><h2>HTML</h2>{frame}src="{key}/html/{message["html_part"]}"></iframe></section>')
    if message["text"] is not None:
        sections.append(f"<section><h2>Text</h2><pre>{escape(message['text'])}</pre></section>")
    sections.append(f"<section><h2>Parts</h2>{_parts(message, key)}</section>")
    sections.append(f"<section><h2>Envelope</h2>{_envelope(message)}</section>")
    headers = _table((_text(name), _text(value)) for name, value in message["headers"])
    sections.append(f"<section><h2>Headers</h2>{headers}</section>")
    body = f"""<header>
<div><p><a href="../inbox">Inbox</a></p>
<h1>{subject}</h1>
<p class=muted>{_time(message["received"])} UTC, from {_address(message["sender"]["address"])}</p></div>
<p><a href="{key}/raw">Raw</a> · <a href="{key}.json">JSON</a></p>
</header>
<main>
{"".join(sections)}
</main>"""
    title = escape(message["subject"] or "no subject")
    return _FRAME.format(title=title, base="../", script="", body=body)


def _parts(message: Facts, key: str) -> str:
    rows = []
    for part in message["parts"]:
        number = part["number"]
        facts = [part["encoding"], part["charset"], part["content_id"] and f"id {part['content_id']}"]
        name = part["file_name"] or ("attachment" if part["attachment"] else "")
        is_container = part["content_type"].startswith("multipart/")
        link = "" if is_container else f'<a href="{key}/parts/{number}" download>Download</a>'
        # No attribute of style: the policy forbids it, and a class for each depth will do.
        rows.append(
            f'<tr><td class="depth-{min(part["depth"], 8)}">{number} <b>{escape(part["content_type"])}</b></td>'
            f"<td>{_text(name)}</td><td class=muted>{_text(', '.join(fact for fact in facts if fact))}</td>"
            f"<td class=number>{_size(part['encoded_size'])}</td><td>{link}</td></tr>"
        )
    return f"<table class=parts>{''.join(rows)}</table>"


def _envelope(message: Facts) -> str:
    sender = message["sender"]
    rows = [("From", f"{_address(sender['address'])}{_parameters(sender)}")]
    for recipient in message["recipients"]:
        reply = "" if recipient["reply"] is None else f'<span class="below">{_text(recipient["reply"])}</span>'
        reply_id = "" if recipient["reply_id"] is None else f" <code>{escape(recipient['reply_id'])}</code>"
        rows.append(("To", f"{_address(recipient['address'])}{_parameters(recipient)}{reply_id}{reply}"))
    tls = message["tls"]
    rows += [
        ("Reply ids begin with", f"<code>{escape(message['id'])}</code>"),
        ("Backend", _text(message["backend"])),
        ("Peer", _text(message["peer"])),
        ("LHLO", _text(message["lhlo_name"])),
        ("TLS", "no" if tls is None else _text(f"{tls['version']}, {tls['cipher']}")),
        ("User", "none" if message["user"] is None else _text(message["user"])),
        ("Size", f"{message['size']} octets"),
        ("Trace", f"<pre>{escape(message['trace'])}</pre>"),
    ]
    return _table(rows)


def _parameters(of: Facts) -> str:
    given = " ".join(f"{name}={value}" if value is not True else name for name, value in of["parameters"].items())
    return f" <code>{_text(given)}</code>" if given else ""
