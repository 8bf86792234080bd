"""
An Exim with the settings of a page: its configuration, queue and log below one directory. It has no daemon and no port.
Mail that no router of the page takes is thrown away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from peer_programs import find

#: Seconds that Exim may take for anything.
PATIENCE = 30.0

_MAIN = """\
exim_path = {directory}/bin/exim
spool_directory = {directory}/var/spool/exim4
log_file_path = {directory}/var/log/exim4/%slog
keep_environment =
primary_hostname = mta.example.net
local_interfaces = 127.0.0.1
smtp_enforce_sync = no
acl_smtp_rcpt = acl_check_rcpt
"""
_DISCARD = "discard:\n  driver = redirect\n  data = :blackhole:\n"
_ACCEPT = "  accept domains = example.org\n"


def needs_root() -> None:
    """Skip where Exim cannot be given a configuration."""
    if os.geteuid() != 0:
        pytest.skip("Exim takes a configuration of ours from root only")


def assembled(main: str, blocks: Mapping[str, str]) -> str:
    """
    One configuration.

    :param main: its beginning.
    :param blocks: by ``acl``, ``router``, ``transport`` and ``auth``: what a page says there.
    """
    return "\n".join(
        (
            main,
            "begin acl\nacl_check_rcpt:",
            blocks.get("acl", ""),
            _ACCEPT,
            "begin routers",
            blocks.get("router", ""),
            _DISCARD,
            "begin transports",
            blocks.get("transport", ""),
            "\nbegin authenticators",
            blocks.get("auth", ""),
            "\nbegin retry\n* * F,1h,1m\n",
        )
    )


def complaints(blocks: Mapping[str, str], directory: Path) -> str:
    """What Exim says against settings: unknown names, and what it cannot parse."""
    file = directory / "exim.conf"
    file.write_text(assembled("keep_environment =\nacl_smtp_rcpt = acl_check_rcpt", blocks))
    program = find("exim4")
    assert program is not None
    return subprocess.run([program, "-C", str(file), "-bV"], capture_output=True, text=True).stderr


class DocumentedExim:
    """
    :param directory: where it lives; Exim's user must be able to reach it.
    :param blocks: what the page says, as :func:`assembled` takes it.
    """

    def __init__(self, directory: Path, blocks: Mapping[str, str]) -> None:
        self._directory = directory
        program = find("exim4")
        assert program is not None
        for name in ("var/spool/exim4", "var/log/exim4", "bin"):
            (directory / name).mkdir(parents=True)
            shutil.chown(directory / name, "Debian-exim", "Debian-exim")
        # A checkout may lie where Exim's user can't reach it, and a copy is not allowed to become root.
        shutil.copyfile(program, directory / "bin/exim")
        configuration = directory / "etc/exim4/exim.conf"
        configuration.write_text(assembled(_MAIN.format(directory=directory), blocks))
        # What the page's commands call.
        call = directory / "bin/exim4"
        call.write_text(f'#!/bin/sh\nexec {directory}/bin/exim -C {configuration} "$@"\n')
        for file in ("exim", "exim4"):
            (directory / "bin" / file).chmod(0o755)

    def run(self, *arguments: str, given: str = "") -> str:
        """
        Call it.

        :param given: its standard input.
        :returns: its standard output.
        """
        done = subprocess.run(
            [f"{self._directory}/bin/exim4", *arguments], input=given, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def log(self) -> str:
        """What it has logged."""
        log = self._directory / "var/log/exim4/mainlog"
        return log.read_text(errors="replace") if log.exists() else ""

    def submit(self, recipients: Sequence[str]) -> None:
        """Hand it a message, and wait until it has tried to deliver it to all recipients."""
        self.run("-odf", "-i", "-f", "you@example.net", *recipients, given="Subject: Hello\n\nHello\n")

    def ask(self, recipients: Sequence[str]) -> dict[str, str]:
        """
        Open a session as a client of another machine, without sending anything.

        :returns: the reply to each recipient.
        """
        said = ["HELO client.example.net", "MAIL FROM:<you@example.net>", *(f"RCPT TO:<{one}>" for one in recipients)]
        output = self.run("-bhc", "192.0.2.7", given="".join(f"{line}\r\n" for line in (*said, "QUIT")))
        replies = [line for line in output.splitlines() if line[:3].isdigit() and line[3:4] == " "]
        return dict(zip(recipients, replies[3:-1], strict=True))
