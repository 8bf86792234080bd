"""What is read of a message: its headers, its text, its parts. For threads, since a message may be large."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from lmtp_twisted.daemon.inbox.decoding import body_of, text_of, value_of, visible
from lmtp_twisted.daemon.inbox.parts import Part, Taken, take_apart

#: Characters of a text that are shown, and of HTML.
MOST_OF_TEXT = 256 * 1024
MOST_OF_HTML = 2 * 1024 * 1024
#: Headers that are shown.
MOST_HEADERS = 200
# Pictures that come with an HTML part are put into it: octets of each, and of all.
_MOST_OF_PICTURE = 1024 * 1024
_MOST_OF_PICTURES = 4 * 1024 * 1024
# Those that cannot hold more than a picture.
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_CID = re.compile(r"cid:([^\s\"'<>()\\]{1,200})", re.IGNORECASE)
# A letter of base64 or quoted-printable may take so many octets.
_MOST_OCTETS_A_CHARACTER = 12
# And one of the text so many, once decoded.
_MOST_DECODED_A_CHARACTER = 4


def read_message(facts: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    """
    :param facts: what is known of it besides.
    :param content: its octets.
    :returns: all that ``/inbox/KEY.json`` says. ``text`` and ``html`` are the first of their kind that want to be
        shown, or ``None``.
    """
    taken = take_apart(content)
    head = taken.parts[0].headers
    if len(head) > MOST_HEADERS:
        taken.note(f"It has more than {MOST_HEADERS} headers: the rest is not shown")
    text, html = (_first(taken, kind) for kind in ("text/plain", "text/html"))
    return {
        **facts,
        "headers": [[name, value_of(value)] for name, value in head[:MOST_HEADERS]],
        "text": None if text is None else text_of_part(taken, text, content, MOST_OF_TEXT),
        "html": None if html is None else text_of_part(taken, html, content, MOST_OF_HTML),
        "html_part": html,
        "parts": [_described(number, part) for number, part in enumerate(taken.parts)],
        "defects": taken.defects,
    }


def _first(taken: Taken, kind: str) -> int | None:
    for number, part in enumerate(taken.parts):
        if part.content_type == kind and not part.is_attachment:
            return number
    return None


def _described(number: int, part: Part) -> dict[str, Any]:
    return {
        "number": number,
        "depth": part.depth,
        "content_type": part.content_type,
        "charset": part.charset,
        "encoding": part.encoding,
        "file_name": part.file_name,
        "attachment": part.is_attachment,
        "content_id": part.content_id,
        "encoded_size": part.end - part.start,
    }


def part_of(content: bytes, number: int) -> Part | None:
    """
    :param content: a message.
    :param number: of a part, the message itself being 0.
    :returns: the part, if there is such a one.
    """
    parts = take_apart(content).parts
    return parts[number] if number < len(parts) else None


def text_of_part(taken: Taken, number: int, content: bytes, most: int) -> str:
    """
    :param taken: the message, taken apart.
    :param number: of the part.
    :param content: the message.
    :param most: characters; what follows is cut, and noted.
    """
    part = taken.parts[number]
    end = min(part.end, part.start + most * _MOST_OCTETS_A_CHARACTER)
    enough = most * _MOST_DECODED_A_CHARACTER
    octets = body_of(content[part.start : end], part.encoding, enough)
    # A line end may become shorter.
    text = visible(text_of(octets, part.charset)[: 2 * most + 2])
    if len(text) > most or len(octets) == enough or end < part.end:
        taken.note(f"Part {number} has more than {most // 1024} KiB of text: the rest is not shown")
    return text[:most]


def html_document(content: bytes, number: int) -> bytes | None:
    """
    :param content: a message.
    :param number: of a part of it.
    :returns: that part in UTF-8, with the pictures in the place of the ``cid:`` that name them (RFC 2392); ``None``
        where it is no HTML.
    """
    taken = take_apart(content)
    if number >= len(taken.parts) or taken.parts[number].content_type != "text/html":
        return None
    text = text_of_part(taken, number, content, MOST_OF_HTML)
    pictures = {part.content_id: part for part in taken.parts if part.content_id and part.content_type in _PICTURES}
    room = _MOST_OF_PICTURES

    def picture(match: re.Match[str]) -> str:
        nonlocal room
        part = pictures.get(match[1])
        if part is None or part.end - part.start > min(room, _MOST_OF_PICTURE):
            return match[0]
        room -= part.end - part.start
        octets = body_of(content[part.start : part.end], part.encoding)
        return f"data:{part.content_type};base64,{b64encode(octets).decode('ascii')}"

    return _CID.sub(picture, text).encode("utf-8", "replace")
