"""
Octets of a message as text that can be shown, whatever they are: nothing here fails, and the work grows no faster than
what is given.
"""

from __future__ import annotations

import binascii
import re
from email.errors import HeaderParseError
from email.header import decode_header
from encodings.aliases import aliases

#: Characters of a header's value that are decoded; what follows is cut.
MOST_OF_A_VALUE = 4096

# Those that mail has. Python knows others that are no charsets, or take time that grows with the square of the text.
_CHARSETS = frozenset(
    {f"iso8859_{number}" for number in (*range(1, 12), *range(13, 17))}
    | {f"cp{number}" for number in (*range(1250, 1259), 437, 850, 852, 855, 866, 874, 932, 949, 950)}
    | {"ascii", "utf_7", "utf_8", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "latin_1", "koi8_r", "koi8_u"}
    | {"mac_roman", "gb2312", "gbk", "gb18030", "big5", "big5hkscs", "hz", "shift_jis", "shift_jis_2004", "tis_620"}
    | {"euc_jp", "euc_kr", "euc_jis_2004", "johab", "ptcp154", "iso2022_jp", "iso2022_jp_1", "iso2022_jp_2"}
    | {"iso2022_jp_3", "iso2022_jp_ext", "iso2022_kr"}
)
_ALIASES = {"utf8": "utf_8", "us_ascii": "ascii", "iso_8859_1": "cp1252", "latin_1": "cp1252", "ascii": "utf_8"}
# Controls but for tabs and line ends, and what changes the direction of the text around it.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")
_FOLD = re.compile("[\r\n\t ]+")


def visible(text: str) -> str:
    """The text with a mark for each character that is not shown or turns others round, and its line ends as LF."""
    return _HIDDEN.sub("\ufffd", text.replace("\r\n", "\n"))


def codec_of(charset: str) -> str | None:
    """
    :param charset: as a message names it.
    :returns: the name of Python's codec; ``None`` for what is no charset of mail.
    """
    name = re.sub(r"[^a-z0-9]+", "_", charset[:40].lower()).strip("_")
    name = _ALIASES.get(name, aliases.get(name, name))
    if name.startswith("iso_8859_"):
        name = f"iso8859_{name[9:]}"
    return name if name in _CHARSETS else None


def text_of(octets: bytes, charset: str | None) -> str:
    """
    :param charset: as the message says it, if it does. Where it is wrong or unknown, UTF-8 is tried.
    :returns: the text; what cannot be read is a replacement character.
    """
    codec = codec_of(charset) if charset else None
    if codec is None:
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            codec = "cp1252"
    return octets.decode(codec, "replace")


def value_of(octets: bytes) -> str:
    """
    The value of a header as people read it (RFC 2047), in one line.

    :param octets: what follows the colon.
    """
    text = _FOLD.sub(" ", text_of(octets[:MOST_OF_A_VALUE], None)).strip()
    if "=?" in text:
        text = "".join(_words(text))
    text = visible(_FOLD.sub(" ", text))
    return f"{text}…" if len(octets) > MOST_OF_A_VALUE else text


def _words(text: str) -> list[str]:
    try:
        words = decode_header(text)
    except (HeaderParseError, ValueError):
        return [text]
    return [
        word if isinstance(word, str) else text_of(word, charset) if charset else word.decode("utf-8", "replace")
        for word, charset in words
    ]


def body_of(octets: bytes, encoding: str) -> bytes:
    """
    :param octets: the body of a part.
    :param encoding: its Content-Transfer-Encoding in lower case.
    :returns: what it encodes; of what is broken, as much as can be read.
    """
    if encoding == "quoted-printable":
        return binascii.a2b_qp(octets)
    if encoding != "base64":
        return octets
    try:
        return binascii.a2b_base64(octets)
    except binascii.Error:
        # Padding that is missing, most of the time.
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", octets)
        return binascii.a2b_base64(letters[: len(letters) // 4 * 4] + _padded(letters[len(letters) // 4 * 4 :]))


def _padded(letters: bytes) -> bytes:
    return letters.ljust(4, b"=") if len(letters) > 1 else b""
