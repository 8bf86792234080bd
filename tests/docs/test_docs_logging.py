"""What the page says of the log is what is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from docs_pages import ROOT
from running_twistd import Client, twistd

PAGE = (ROOT / "docs/logging.rst").read_text(encoding="utf-8")
_CELL = r"(?:\n      - (.*(?:\n        .*)*))"
_FIELD = re.compile(r"    \* - ``(\w+)``\n      -(.*)\n      - ")
_EVENT = re.compile(r"    \* - (``[a-z` ,]+``)\n      - (info|debug)\n")


def test_the_fields_of_the_table_are_those_of_a_record_in_their_order(tmp_path: Path) -> None:
    """In JSON; and in text those that have a name there."""
    fields = _FIELD.findall(PAGE)
    records: dict[str, str] = {}
    for form in ("json", "text"):
        arguments = ["--port", "0", "--backend", "null:", "--trust", "127.0.0.1", "--log-format", form]
        with twistd(tmp_path, *arguments) as server, Client(server.port) as client:
            for command in ("LHLO c", "XFORWARD IDENT=4bXyZ1", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"):
                client.say(command)
            client.say("Message-ID: <1@example.net>\r\n\r\nhello\r\n.")
            records[form] = server.until(r"(?m)^.*250 2\.0\.0 Delivered.*$")[0]
    assert list(json.loads(records["json"])) == [name for name, _ in fields]
    names = re.findall(r" ([a-z-]+)=", records["text"])
    assert names == [match[1] for _, cell in fields if (match := re.fullmatch(r" ``([a-z-]+)=(<>)?``", cell))]


def test_the_table_has_all_other_events() -> None:
    """Those that the journal knows."""
    source = (ROOT / "lmtp_twisted/daemon/journal.py").read_text(encoding="utf-8")
    known = set(re.findall(r'"((?:session|message|sender|recipient|limit) [a-z ]+)"', source))
    table = {name for cell, _ in _EVENT.findall(PAGE) for name in re.findall(r"``([^`]+)``", cell)}
    assert table == known
    assert len(table) == 7
