"""What runs the documentation can fail: a page that says something wrong is found out."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs_exchange import play_row, rows_of
from docs_pages import blocks_of
from docs_run import peer_of, run_page

SERVER = """
.. code-block:: python
    :caption: backend.py

    def deliver(message, recipient):
        return "Taken"

.. code-block:: console

    $ twistd -n lmtp --port 2524 --backend python:backend:deliver
    … listening on 127.0.0.1:2524
"""

SEND = """
.. code-block:: python

    import smtplib

    with smtplib.LMTP("127.0.0.1", 2524) as client:
        client.sendmail("a@example.net", ["b@example.org"], "Subject: Hello")
"""


def run(tmp_path: Path, text: str, name: str = "page.rst") -> None:
    page = tmp_path / name
    page.write_text(text, encoding="utf-8")
    run_page(blocks_of(page))


def rst(language: str, *lines: str, caption: str = "") -> str:
    option = f"    :caption: {caption}\n" if caption else ""
    return f"\n.. code-block:: {language}\n{option}\n" + "".join(f"    {line}\n" for line in lines)


def test_a_page_on_which_all_is_right_passes(tmp_path: Path) -> None:
    """A file, a server that uses it, a client, and what the server says of it."""
    run(tmp_path, SERVER + SEND + rst("console", "… reply=250 2.0.0 Taken"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(rst("python", "x = 1", "assert x == 2"), "AssertionError", id="python that raises"),
        pytest.param(rst("python", "def test_one():", "    assert 1 == 2"), "in test_one", id="a test that fails"),
        pytest.param(rst("python", "def"), "SyntaxError", id="python that is none"),
        pytest.param(rst("python", "y") + rst("python", "y = 1"), "NameError", id="python in the wrong order"),
        pytest.param(rst("python", "raise SystemExit(0)"), "SystemExit", id="python that ends the interpreter"),
        pytest.param(rst("python", "reactor.run()"), "runs a reactor", id="a reactor in the namespace of a page"),
        pytest.param(
            rst("python", "def", caption="a.py") + rst("console", "$ cat a.py"), "invalid syntax", id="a file"
        ),
        pytest.param(rst("python", "x = 1", caption="unused.py"), "uses unused.py", id="a file that nothing uses"),
        pytest.param(rst("console", "$ false"), "ended with 1", id="a command that fails"),
        pytest.param(rst("console", "$ no-such-program"), "ended with 127", id="a command that does not exist"),
        pytest.param(rst("console", "$ echo one", "two"), "but it was\none", id="other output"),
        pytest.param(rst("console", "$ printf '1\\n2\\n'", "1"), "but it was\n1\n2", id="more output"),
        pytest.param(rst("console", "$ echo 1", "1", "2"), "but it was\n1", id="less output"),
        pytest.param(rst("console", "one"), "of which command", id="output of nothing"),
        pytest.param(rst("console", "# true"), "is for root", id="a command for root"),
        pytest.param(rst("sh", "false"), "ended with 1", id="a shell line that fails"),
        pytest.param(rst("text", "C: NOOP", "S: 250 no"), "250 2.0.0 OK", id="another reply"),
        pytest.param(rst("text", "C: NOOP"), "what does the server say", id="a dialogue without a reply"),
        pytest.param(rst("text", "some words"), "no line of a dialogue", id="text that is no dialogue"),
        pytest.param(rst("ruby", "puts 1"), "nothing runs 'ruby'", id="an unknown language"),
        pytest.param(rst("", "x"), "nothing runs ''", id="no language"),
        pytest.param("An example::\n\n    x = 1\n", "nothing runs", id="a literal block"),
        pytest.param(">>> 1\n2\n", "nothing runs", id="a doctest"),
        pytest.param(".. parsed-literal::\n\n    x\n", "nothing runs", id="another directive"),
    ],
)
def test_a_block_that_is_wrong_fails(tmp_path: Path, text: str, complaint: str) -> None:
    """Each with what it is about."""
    with pytest.raises((AssertionError, SyntaxError)) as caught:
        run(tmp_path, text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(SERVER.replace("backend:deliver", "backend:absent"), "ended at once", id="it does not start"),
        pytest.param(SERVER.replace("--port 2524 ", ""), "where does it listen", id="nobody knows where it listens"),
        pytest.param(SERVER.replace("listening", "whistling"), "whistling", id="it prints something else"),
        pytest.param(SERVER + rst("console", "… reply=250"), "reply=250", id="nothing was sent"),
        pytest.param(
            SERVER.replace('"Taken"', "1 / 0")
            + SEND.replace("client.send", "try: client.send")
            # smtplib raises where the only recipient is refused.
            + "        except smtplib.SMTPDataError: pass\n",
            "ZeroDivisionError",
            id="it logs a traceback",
        ),
    ],
)
def test_a_server_that_is_not_as_the_page_says_fails(tmp_path: Path, text: str, complaint: str) -> None:
    """Also where its output is looked at only when it ends."""
    with pytest.raises(AssertionError) as caught:
        run(tmp_path, text)
    assert complaint in str(caught.value)


def test_a_server_makes_way_for_the_next_on_its_port(tmp_path: Path) -> None:
    """As a page says: stop it, and start this one."""
    second = SERVER.replace("Taken", "Again")
    run(tmp_path, SERVER + second + SEND + rst("console", "… reply=250 2.0.0 Again"))


def test_a_daemon_that_a_page_leaves_running_is_a_failure(tmp_path: Path) -> None:
    """And it does not run any longer."""
    with pytest.raises(AssertionError, match="left running"):
        run(tmp_path, rst("console", "$ twistd --pidfile left.pid lmtp --port 2524 --backend null:"))


def test_a_file_of_a_page_is_there_for_its_commands_and_modules(tmp_path: Path) -> None:
    """The caption names it."""
    text = rst("python", "ANSWER = 42", caption="deep/thought.py")
    text += rst("python", "from deep.thought import ANSWER", "assert ANSWER == 42")
    run(tmp_path, text + rst("console", "$ cat deep/thought.py", "ANSWER = 42"))


def test_the_output_of_a_command_may_leave_something_out(tmp_path: Path) -> None:
    """``…`` is any text in a line, and any lines where it stands alone."""
    run(tmp_path, rst("console", r"$ printf '1 x 2\na\nb\n3\n'", "1 … 2", "…", "3"))


def test_blocks_of_markdown_are_found(tmp_path: Path) -> None:
    """A comment that readers do not see names a file."""
    text = "<!-- file: a.py -->\n```python\nX = 1\n```\n\nText.\n\n```console\n$ cat a.py\nX = 1\n```\n"
    page = tmp_path / "page.md"
    page.write_text(text)
    file, console = blocks_of(page)
    assert (file.file, file.language, file.text, file.line) == ("a.py", "python", "X = 1", 3)
    assert (console.language, console.line) == ("console", 9)
    run_page([file, console])


@pytest.mark.parametrize("text", ["```\nx\n```\n", "```js\nx\n```\n", "~~~ruby\nx\n~~~\n", "Text.\n\n    x = 1\n"])
def test_markdown_without_a_known_language_fails(tmp_path: Path, text: str) -> None:
    """As in the pages in reST."""
    with pytest.raises(AssertionError, match="nothing runs"):
        run(tmp_path, text, "page.md")


def test_a_block_that_needs_another_program_says_so(tmp_path: Path) -> None:
    """So that the rest of the page is run without it."""
    page = tmp_path / "page.rst"
    page.write_text(rst("console", "$ swaks --version") + rst("console", "$ true"))
    assert [peer_of(block) for block in blocks_of(page)] == ["swaks", None]


TABLE = """
.. played after: LHLO c

.. list-table::
    :header-rows: 1

    * - You send
      - It answers
    * - ``VRFY`` and ``NOOP``, a well-known pair of
        commands
      - ``501 5.5.4`` and ``250``
    * - ``QUIT``
      - ``221``, and closes
    * - a message
      - whatever it likes

Text.
"""


def test_the_rows_of_a_table_are_played(tmp_path: Path) -> None:
    """Those that hold literals."""
    page = tmp_path / "page.rst"
    page.write_text(TABLE)
    rows = rows_of(page)
    assert [(row.sent, row.replies, row.closes) for row in rows] == [
        (("VRFY", "NOOP"), ("501 5.5.4", "250"), False),
        (("QUIT",), ("221",), True),
    ]
    for row in rows:
        play_row(row)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("``501 5.5.4`` and", "``502`` and"),
        (" and ``250``", ""),
        (" and ``NOOP``", ""),
        (", and closes", ""),
        ("after: LHLO c", "after: NOOP | MAIL FROM:<>"),
    ],
)
def test_a_row_that_is_wrong_fails(tmp_path: Path, right: str, wrong: str) -> None:
    """Another reply, another number of them, another end."""
    page = tmp_path / "page.rst"
    page.write_text(TABLE.replace(right, wrong))

    def play_all() -> None:
        for row in rows_of(page):
            play_row(row)

    with pytest.raises(AssertionError):
        play_all()
