"""Each row of the table of docs/faults.rst is played."""

from __future__ import annotations

import re

import attrs
import pytest
from docs_pages import ROOT

from lmtp_twisted import LMTPFactory
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.testing import Conversation, FakePool, FakeReactor, ScriptedDeliveries

_ROW = re.compile(r"^    \* - ``(.+)``\n      - (.*(?:\n        .*)*)\n      - (.*)$", re.MULTILINE)
_CODE = re.compile(r"``(\d\d\d)``")
_AFTER = re.compile(r"after (\d+) s ")


@attrs.frozen
class Row:
    """
    :ivar description: of the fault.
    :ivar sees: what the client does, in the words of the page.
    :ivar delivered: the recipients who have the message.
    """

    description: str
    sees: str
    delivered: str


ROWS = [Row(*match) for match in _ROW.findall((ROOT / "docs" / "faults.rst").read_text(encoding="utf-8"))]


def test_the_table_is_read() -> None:
    assert len(ROWS) == 17


def steps_of(sees: str) -> list[tuple[int, list[str]]]:
    """The seconds after which codes come, and the codes."""
    pieces = _AFTER.split(sees.replace(" at once", ""))
    steps = [(0, _CODE.findall(pieces[0].partition(", the first")[0].partition(":")[0]))]
    steps += [(int(seconds), _CODE.findall(codes)) for seconds, codes in zip(pieces[1::2], pieces[2::2], strict=True)]
    return steps


@pytest.mark.parametrize("row", [pytest.param(row, id=row.description) for row in ROWS])
def test_the_client_sees_what_the_row_says(row: Row) -> None:
    reactor, inner = FakeReactor(), ScriptedDeliveries()
    context = BackendContext(reactor, FakePool(), "mx", named={"inner": lambda: inner})  # type: ignore[arg-type]
    then = "" if ",then=" in row.description else ",then=inner"
    factory = LMTPFactory(backend=context.build(f"faults:{row.description}{then}"), reactor=reactor)
    client = Conversation(factory)
    client.say("LHLO c", "MAIL FROM:<s@x>", *(f"RCPT TO:<{name}@example.org>" for name in "abc"), "DATA")
    client.protocol.dataReceived(b"Subject: Hello\r\n\r\n.\r\n")
    for seconds, codes in steps_of(row.sees):
        reactor.advance(max(0.0, seconds - 0.01 - reactor.seconds()))
        if seconds:
            assert client.transport.value() == b""
            reactor.advance(0.02)
        *lines, rest = client.transport.value().decode().split("\r\n")
        client.transport.clear()
        assert [line[:3] for line in lines] == codes
        assert rest == ("250 2.0.0 <c@example" if "the first 20 octets" in row.sees else "")
    assert client.is_closed is ("end of the connection" in row.sees)
    names = [recipient.address.local for message in inner.messages for recipient in message.recipients]
    assert names == ([] if row.delivered == "nobody" else row.delivered.split(", "))
    client.lose()
