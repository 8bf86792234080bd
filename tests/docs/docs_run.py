"""One page, all of whose blocks are run in order: files are written, code is run, commands are typed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from docs_console import Command, Console, commands_of
from docs_exchange import play
from docs_interpreter import Interpreter
from docs_pages import INSTEAD, NOT_RUN, Block
from peer_programs import search_path

#: Ports of the pages: each run has free ones instead.
PORTS = ("2524", "2525", "2527", "2528", "8025", "8080")
#: Directories of the pages: in each run they are below its own.
PLACES = (
    "/srv/",
    "/var/spool/postfix/",
    "/var/log/",
    "/var/lib/",
    "/etc/exim4/",
    "/etc/lmtp/",
    "/etc/nginx/",
    "/etc/postfix/",
    "/etc/systemd/system/",
)
#: Languages of the configuration of mail servers: see test_docs_postfix.py and test_docs_exim.py.
CONFIGURATION = frozenset({"ini"})
#: Languages of blocks that are read by tests of their own: this, test_units.py, test_docs_haproxy.py and
#: test_docs_smtp_server.py, test_docs_recipients.py, test_docs_production.py, test_docs_status_page.py.
READ = CONFIGURATION | {"systemd", "cfg", "javascript", "sql", "yaml", "nginx"}
# A caption that is the name of a file.
_FILE = re.compile(r"[./]")
#: Captions of dialogues that are not with the server of docs_exchange.py, and of servers that speak them.
SPEAKERS = frozenset({"Both", "Both, with TLS", "smtp-server", "aiosmtpd", "lmtp-twisted"})
#: Programs that are not everywhere, and what they belong to.
PEERS = {"swaks": "swaks", "postconf": "postfix", "jq": "jq", "logrotate": "logrotate"}

_REACTOR = re.compile(r"\breactor\.run\(|\breact\(|reactor\.install\(")


def peer_of(block: Block) -> str | None:
    """The peer without which a block cannot be run."""
    if block.language not in ("console", "sh"):
        return None
    programs = {command.text.partition(" ")[0] for command in commands_of(block)}
    return next((peer for program, peer in PEERS.items() if program in programs), None)


class Places:
    """
    What stands in the place of the machine's ports and directories, and what commands run with.

    :param directory: where all of it is; the places are made.
    :param ports: of servers that run already, by what the page calls them.
    :ivar environment: with the programs of the interpreter that runs the tests first in the path.
    """

    def __init__(self, directory: Path, ports: Mapping[str, int] = MappingProxyType({})) -> None:
        for place in PLACES:
            (directory / place.strip("/")).mkdir(parents=True)
        others = {port: free_port() for port in PORTS}
        self._replacements = {rf"(?<!\d){port}(?!\d)": str(here) for port, here in (*others.items(), *ports.items())}
        self._replacements |= {rf"(?<![\w./]){place}": f"{directory}{place}" for place in PLACES}
        self.environment = _environment()

    def here(self, text: str) -> str:
        """What stands on a page, with the ports and directories of this run."""
        for pattern, replacement in self._replacements.items():
            text = re.sub(pattern, replacement, text)
        return text


def run_page(blocks: Sequence[Block], ports: Mapping[str, int] = MappingProxyType({})) -> None:
    """
    Run the blocks of one page in order.

    :param ports: as :class:`Places` takes them.
    :raises AssertionError: where one of them does not do what the page says, or cannot be run at all.
    """
    with ExitStack() as stack:
        # Not pytest's directory: the path of a Unix socket has room for 107 octets.
        run = _Run(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docs-"))), ports)
        stack.callback(run.kill)
        for number, block in enumerate(blocks):
            run.block(block, blocks[number + 1 :])
        run.close()


class _Run:
    def __init__(self, directory: Path, ports: Mapping[str, int]) -> None:
        self._directory = directory
        places = Places(directory, ports)
        self._here = places.here
        self._console = Console(directory, places.environment)
        self._interpreter = Interpreter(directory, places.environment)

    def block(self, block: Block, later: Sequence[Block]) -> None:
        if block.language == "text" and block.file is not None and not _FILE.search(block.file):
            # Its caption says who speaks it: a dialogue with servers of the page, see test_docs_smtp_server.py.
            assert block.file in SPEAKERS, f"{block.place}: nobody is called {block.file}"
        elif block.language == "python" and block.file in SPEAKERS:
            # One of these servers: see test_docs_aiosmtpd.py.
            pass
        elif block.file is not None and block.language not in READ:
            self._write(block, later)
        elif block.language == "python":
            assert not _REACTOR.search(block.text), f"{block.place}: it runs a reactor: make it a file, and run that"
            self._interpreter.run(block, self._here(block.text))
        elif block.language in ("console", "sh"):
            for command in commands_of(block):
                self._type(command)
        elif block.language == "text":
            play(block)
        else:
            known = block.language in READ
            assert known, f"{block.place}: nothing runs {block.language!r}"

    def _write(self, block: Block, later: Sequence[Block]) -> None:
        assert block.file is not None
        name = Path(block.file)
        # A plugin is used by whoever finds it.
        user = r"\btwistd\b" if name.parts[:2] == ("twisted", "plugins") else rf"\b{re.escape(name.stem)}\b"
        if name.name == "pyproject.toml":
            user = r"\bpip\b"
        is_used = any(re.search(user, other.text) for other in later)
        assert is_used, f"{block.place}: nothing on the page uses {block.file}"
        target = self._directory / self._here(block.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = self._here(block.text) + "\n"
        target.write_text(source, encoding="utf-8")
        if name.suffix == ".py":
            compile(source, block.place, "exec")

    def _type(self, command: Command) -> None:
        if command.text in NOT_RUN:
            return
        text = INSTEAD.get(command.text, command.text)
        is_harmless = not command.is_for_root or command.text in INSTEAD
        assert is_harmless, f"{command.block.place}: {command.text!r} is for root, and neither in NOT_RUN nor INSTEAD"
        self._console.run(command, self._here(text), [self._here(line) for line in command.output])

    def close(self) -> None:
        self._console.close()

    def kill(self) -> None:
        self._interpreter.close()
        self._console.kill()


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _environment() -> Mapping[str, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), search_path()))
    found = shutil.which("twistd", path=path)
    assert found is not None, "twistd is not in the environment of the tests"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "LC_ALL": "C.UTF-8"}
