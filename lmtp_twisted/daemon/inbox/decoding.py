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
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
# Octets that are decoded, and characters that are looked at, at a time.
_PIECE = 64 * 1024


def visible(text: str) -> str:
    """The text with a mark for each character that is not shown or turns others round, and its line ends as LF."""
    text = text.replace("\r\n", "\n")
    return "".join(_HIDDEN.sub("\ufffd", text[start : start + _PIECE]) for start in range(0, len(text), _PIECE))


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


def body_of(octets: bytes, encoding: str, most: int | None = None) -> bytes:
    """
    :param octets: the body of a part.
    :param encoding: its Content-Transfer-Encoding in lower case.
    :param most: octets of what it encodes; all of them by default. No more is decoded than is needed for them.
    :returns: what it encodes; of what is broken, as much as can be read.
    """
    decoder = Decoder(encoding)
    view = memoryview(octets)
    pieces, room = [], len(octets) if most is None else most
    for start in range(0, len(octets), _PIECE):
        piece = decoder.feed(bytes(view[start : start + _PIECE]))
        pieces.append(piece)
        room -= len(piece)
        if room <= 0:
            return b"".join(pieces)[:most]
    pieces.append(decoder.end())
    return b"".join(pieces)[:most]


class Decoder:
    """
    Decodes the body of a part in pieces: each is short enough not to hold up other threads.

    :param encoding: its Content-Transfer-Encoding in lower case.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._left = b""
        self._is_over = False

    def feed(self, octets: bytes) -> bytes:
        """
        :param octets: the next of them.
        :returns: what can be read of what they encode.
        """
        if self._encoding == "base64":
            return self._base64(octets)
        if self._encoding == "quoted-printable":
            return self._quoted_printable(octets)
        return octets

    def end(self) -> bytes:
        """What can be read of the last octets, which may lack their padding."""
        left, self._left = self._left, b""
        if self._encoding == "quoted-printable":
            return binascii.a2b_qp(left)
        return binascii.a2b_base64(left.ljust(4, b"=")) if len(left) > 1 else b""

    def _base64(self, octets: bytes) -> bytes:
        if self._is_over:
            return b""
        letters, padding, _ = (self._left + octets.translate(None, _NOT_BASE64)).partition(b"=")
        self._is_over = bool(padding)
        whole = len(letters) // 4 * 4
        self._left = letters[whole:]
        return binascii.a2b_base64(letters[:whole])

    def _quoted_printable(self, octets: bytes) -> bytes:
        octets = self._left + octets
        # An octet takes three, as does the end of a line that goes on.
        equals = octets.rfind(b"=", len(octets) - 2) if len(octets) > 1 else octets.find(b"=")
        self._left = octets[equals:] if equals >= 0 else b""
        return binascii.a2b_qp(octets[:equals] if equals >= 0 else octets)
