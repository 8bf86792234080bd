"""Every block of code in README.md and in the pages of the documentation does what its page says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docs_console import commands_of
from docs_exchange import PLAYED, Row, play_row, rows_of
from docs_pages import INSTEAD, NOT_RUN, ROOT, Block, all_pages, blocks_of
from docs_run import peer_of, run_page

import lmtp_twisted.interfaces

if TYPE_CHECKING:
    from rabbitmq_cluster import RabbitCluster

#: Its blocks need a broker, all of them.
QUEUE_PAGE = "docs/amqp.rst"
PAGES = {str(page.relative_to(ROOT)): blocks_of(page) for page in all_pages()}


def _runs() -> Iterator[object]:
    for name, blocks in PAGES.items():
        if name == QUEUE_PAGE:
            continue
        anywhere = [block for block in blocks if peer_of(block) is None]
        if anywhere:
            yield pytest.param(anywhere, id=name)
        for peer in sorted({peer for block in blocks if (peer := peer_of(block))}):
            with_peer = [block for block in blocks if peer_of(block) in (None, peer)]
            yield pytest.param(with_peer, id=f"{name} with {peer}", marks=pytest.mark.peer(peer))


@pytest.mark.parametrize("blocks", list(_runs()))
def test_the_blocks_of_a_page_do_what_it_says(blocks: list[Block]) -> None:
    """In order, as a reader would type them."""
    run_page(blocks)


@pytest.mark.peer("rabbitmq")
def test_the_blocks_of_the_page_about_queues_do_what_it_says(rabbitmq: RabbitCluster) -> None:
    """With a cluster that has the user whom RabbitMQ makes by itself."""
    rabbitmq.ctl("add_user", "guest", "guest")
    rabbitmq.ctl("set_permissions", "guest", ".*", ".*", ".*")
    run_page(PAGES[QUEUE_PAGE], {"5672": rabbitmq.nodes["a"].port, "5673": rabbitmq.nodes["b"].port})


@pytest.mark.parametrize("row", [pytest.param(row, id=row.place) for page in all_pages() for row in rows_of(page)])
def test_a_row_of_a_table_is_what_the_server_answers(row: Row) -> None:
    """The tables of docs/protocol.rst."""
    play_row(row)


def test_every_table_that_is_to_be_played_has_rows() -> None:
    """A comment or a table that is not as the reader expects it would pass unseen."""
    for page in all_pages():
        tables = len(PLAYED.findall(page.read_text(encoding="utf-8")))
        assert len({(row.kind, row.before) for row in rows_of(page)}) == tables


def test_every_command_that_is_not_run_stands_on_a_page() -> None:
    """The list of exceptions holds nothing that could be taken off it."""
    blocks = [block for blocks in PAGES.values() for block in blocks if block.language in ("console", "sh")]
    typed = {command.text for block in blocks for command in commands_of(block)}
    assert NOT_RUN.keys() | INSTEAD.keys() <= typed


def test_the_backend_in_the_docstring_of_the_interfaces_works(tmp_path: Path) -> None:
    """Who reads interfaces.py alone can write a backend."""
    page = tmp_path / "interfaces.rst"
    use = """
.. code-block:: python

    from lmtp_twisted.testing import Conversation, FakeReactor

    client = Conversation(LMTPFactory(backend=DictionaryDeliveries(), reactor=FakeReactor()))
    client.say("LHLO c", "MAIL FROM:<>", "RCPT TO:<alice@example.org>")
    assert client.say("RCPT TO:<bob@example.org>")[0].startswith("550 5.1.1")
    client.say("DATA")
    assert client.say("Hello", ".")[0].startswith("250 2.0.0 <alice@example.org>")
    assert mail == {"alice@example.org": [b"Hello\\r\\n"]}
"""
    docstring = inspect.getdoc(lmtp_twisted.interfaces) or ""
    page.write_text(docstring.replace("dictionary::\n", "dictionary:\n\n.. code-block:: python\n") + use)
    blocks = blocks_of(page)
    assert [block.language for block in blocks] == ["python", "python"]
    run_page(blocks)
