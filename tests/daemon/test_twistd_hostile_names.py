"""Whatever a recipient is called, the server touches nothing outside the root: each of its calls is looked at."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_names import DOMAINS, LOCAL_PARTS, Tree, recipient
from running_twistd import Client, twistd

_CHANGES = re.compile(
    r"\d+ +(mkdir|rmdir|link|symlink|rename|unlink|mknod|chmod|fchmodat|chown|truncate|creat|utime)\w*\("
)
_OPENS = re.compile(r"\d+ +open\w*\(.*(O_CREAT|O_WRONLY|O_RDWR|O_TMPFILE)")
#: A name, and the directory that it is in.
_RELATIVE = re.compile(r'\d+<([^>]*)>, "((?:[^"\\]|\\.)*)"')
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')


def touched(trace: str) -> Iterator[tuple[str, str, bool]]:
    """Of each call its line, the path, and whether it changes something."""
    for line in trace.splitlines():
        changes = bool(_CHANGES.match(line) or _OPENS.match(line))
        relative = _RELATIVE.findall(line)
        for directory, name in relative:
            yield line, name if name.startswith("/") else f"{directory}/{name}", changes
        if not relative:
            for name in _PATH.findall(line)[:1]:
                yield line, name, changes


@pytest.mark.peer("strace")
@pytest.mark.parametrize("options", ["", ",detail=folder,create=yes,quota=1G"], ids=["mailboxes", "folders and quota"])
def test_the_calls_of_a_real_server_stay_below_the_root(tmp_path: Path, options: str) -> None:
    """As the kernel sees them."""
    tree = Tree(str(tmp_path))
    before = tree.outside()
    trace = tmp_path.with_name(f"{tmp_path.name}.trace")
    # As a grandchild, so that signals are for the server.
    strace = ("strace", "-D", "-f", "-y", "-qq", "-s", "4096", "-e", "trace=%file", "-o", str(trace))
    arguments = ("--port", "0", "--backend", f"maildir:{tree.root}{options}")
    with twistd(tmp_path.parent, *arguments, prefix=strace, environment={"PYTHONDONTWRITEBYTECODE": "1"}) as server:
        with Client(server.port) as client:
            started = trace.stat().st_size
            client.say("LHLO client.example")
            delivered = 0
            for local in LOCAL_PARTS:
                client.say("MAIL FROM:<a@example.net> SMTPUTF8")
                accepted = 0
                for domain in DOMAINS:
                    # A line break would only be another command here.
                    name = recipient(local.replace("\r", "").replace("\n", "\v"), domain).decode()
                    accepted += client.say(f"RCPT TO:<{name}>").startswith("250 ")
                if not accepted:
                    client.say("RSET")
                    continue
                assert client.say("DATA").startswith("354 ")
                client.send("Subject: hello\r\n\r\nhello\r\n.\r\n")
                assert {client.reply()[:9] for _ in range(accepted)} == {"250 2.0.0"}
                delivered += accepted
        assert delivered > 100
        server.terminate()
        assert server.ended() == -signal.SIGTERM
    assert tree.outside() == before
    tree.look("[^/.][^/]*/[^/.][^/]*")
    if options:
        names = tree.inside()
        assert [name for name in names if "/.&IKw-/new/" in name]
        assert [name for name in names if name.endswith("/maildirsize")]
    changes = 0
    with open(trace, "rb") as file:
        file.seek(started)
        for line, path, is_change in touched(file.read().decode(errors="replace")):
            below = path.startswith(f"{tree.root}/") and ".." not in path.split("/")
            assert below or not is_change, line
            changes += is_change
            # Nor is anything else of the tree looked at, but the root itself.
            assert below or path == str(tree.root) or not path.startswith(f"{tmp_path}"), line
    assert changes > 3 * delivered
