"""
A Postfix with the settings of a page: its configuration, queue and log below one directory, its only port on loopback.
What no transport of the page takes goes nowhere.
"""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from docs_run import free_port
from docs_submission import submit
from peer_programs import search_path

#: Seconds that Postfix may take for anything.
PATIENCE = 30.0

_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/var/spool/postfix
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mta.example.net
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
notify_classes =
smtpd_peername_lookup = no
default_transport = error:goes nowhere
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup   unix n - n 60    1 pickup
cleanup  unix n - n -     0 cleanup
qmgr     unix n - n 300   1 qmgr
rewrite  unix - - n -     - trivial-rewrite
bounce   unix - - n -     0 bounce
defer    unix - - n -     0 bounce
trace    unix - - n -     0 bounce
verify   unix - - n -     1 verify
proxymap unix - - n -     - proxymap
local    unix - n n -     - local
error    unix - - n -     - error
retry    unix - - n -     - error
lmtp     unix - - n -     - lmtp
anvil    unix - - n -     1 anvil
scache   unix - - n -     1 scache
tlsmgr   unix - - n 1000? 1 tlsmgr
showq    unix n - n - - showq
flush    unix n - n 1000? 0 flush
postlog  unix-dgram n - n - 1 postlogd
"""


def needs_root() -> None:
    """Skip where Postfix cannot be started."""
    if os.geteuid() != 0:
        pytest.skip("Postfix starts as root only")


def environment() -> dict[str, str]:
    """With the directories where Postfix's programs are."""
    return {**os.environ, "PATH": search_path()}


def write_configuration(directory: Path, main: str, master: str) -> None:
    """
    :param main: the text of ``main.cf``.
    :param master: the text of ``master.cf``.
    """
    for name, text in (("main.cf", main), ("master.cf", master)):
        file = directory / name
        file.write_text(text)
        # Of a file that is younger than two seconds Postfix thinks that somebody is still writing it, and waits.
        old = file.stat().st_mtime - 60
        os.utime(file, (old, old))


class DocumentedPostfix:
    """
    :param directory: where it lives; Postfix's user must be able to reach it.
    :param settings: what the page says in ``main.cf``.
    :param changes: other settings, which count more than all else.
    :raises AssertionError: where it does not start, with its words.
    """

    def __init__(self, directory: Path, settings: str, changes: Mapping[str, str]) -> None:
        self.directory = directory
        self._port = free_port()
        (directory / "etc").mkdir(exist_ok=True)
        (directory / "data").mkdir()
        shutil.chown(directory / "data", "postfix")
        ours = _MAIN.format(directory=directory).split("\n")
        page = settings + "".join(f"\n{name} = {value}" for name, value in changes.items())
        said = set(re.findall(r"^\w+(?= *=)", page, re.MULTILINE))
        kept = [line for line in ours if line.partition(" ")[0] not in said]
        write_configuration(directory / "etc", "\n".join((*kept, page, "")), _MASTER.format(port=self._port))
        (directory / "maillog").touch()
        self._command("start")

    def _command(self, verb: str) -> None:
        done = subprocess.run(
            ["postfix", "-c", str(self.directory / "etc"), verb],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"postfix {verb}: {done.stdout}{done.stderr}{self.log()}"

    def stop(self) -> None:
        """Stop it, with all its processes."""
        self._command("stop")

    def log(self) -> str:
        """What it has logged."""
        return (self.directory / "maillog").read_text(errors="replace")

    def submit(
        self, recipients: Sequence[str], *, sender: str = "you@example.net", options: Sequence[str] = ()
    ) -> dict[str, tuple[int, str]]:
        """
        Hand it a message by SMTP.

        :param options: parameters of RCPT.
        :returns: the reply to each recipient.
        """
        with smtplib.SMTP("127.0.0.1", self._port, "client.example.net", timeout=PATIENCE) as client:
            return submit(client, recipients, sender, options)

    def statuses(self, count: int) -> dict[str, str]:
        """
        Wait until the log has so many recipients' outcomes.

        :returns: for each, what stands from ``dsn=`` on.
        """

        def find() -> dict[str, str]:
            return dict(re.findall(r"/lmtp\[\d+\]: \w+: to=<([^>]*)>.*?(dsn=.*)", self.log()))

        self.wait(lambda: len(find()) >= count)
        return find()

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        until = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)
