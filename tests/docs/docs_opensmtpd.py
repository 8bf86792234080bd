"""
An OpenSMTPD with the settings of a page. Its places and its users are part of the program, so it runs in a directory
that is its root, with users of its own there. Its only port is on loopback. Mail that no line of the page takes is
refused.
"""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from docs_run import free_port
from docs_submission import submit
from peer_programs import find

#: Seconds that OpenSMTPD may take for anything.
PATIENCE = 30.0

#: The number of the user ``vmail`` there.
VMAIL = 903
_USERS = {"root": 0, "opensmtpd": 901, "opensmtpq": 902, "vmail": VMAIL}
_LIBRARY = re.compile(r"(/\S+) \(0x")


def needs_root() -> None:
    """Skip where OpenSMTPD cannot be started."""
    if os.geteuid() != 0:
        pytest.skip("OpenSMTPD starts as root only")


def _install(program: str, place: Path) -> None:
    """A program with its libraries, below the root of ``place``."""
    found = find(program)
    assert found is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, place)
    place.chmod(0o755)


def _install_libraries(root: Path, programs: Sequence[Path]) -> None:
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    for library in set(_LIBRARY.findall(listed)):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, place)
        place.chmod(0o755)


class DocumentedOpenSMTPD:
    """
    :param root: what it takes for the whole file system.
    :param settings: what the page says in ``smtpd.conf``.
    """

    def __init__(self, root: Path, settings: str) -> None:
        self._root = root
        self._port = free_port()
        self._prepare()
        listen = f"listen on 127.0.0.1 port {self._port} hostname mta.example.net\n"
        # A way for bounces, which leads nowhere.
        bounces = 'action "bounces" relay host "smtp://127.0.0.1:9"\nmatch from local for any action "bounces"\n'
        (root / "etc/smtpd.conf").write_text(f"{listen}{settings}\n{bounces}")
        self._output = (root / "maillog").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    def _prepare(self) -> None:
        root = self._root
        for place in ("var/lib/opensmtpd/empty", "var/spool", "var/run", "srv/mail", "tmp", "dev", "etc"):
            (root / place).mkdir(parents=True, exist_ok=True)
        (root / "var/spool/smtpd").mkdir(mode=0o711)
        programs = [root / "usr/sbin/smtpd", root / "usr/libexec/opensmtpd/mail.lmtp", root / "bin/sh"]
        for name, place in zip(("smtpd", "mail.lmtp", "sh"), programs, strict=True):
            _install(name, place)
        _install_libraries(root, programs)
        (root / "tmp").chmod(0o1777)
        null = root / "dev/null"
        null.touch()
        null.chmod(0o666)
        (root / "etc/passwd").write_text(
            "".join(f"{user}:x:{n}:{n}::/srv/mail:/bin/sh\n" for user, n in _USERS.items())
        )
        (root / "etc/group").write_text("".join(f"{user}:x:{n}:\n" for user, n in _USERS.items()))

    def complaints(self, *, status: int = 0) -> str:
        """What ``smtpd -n`` says of its configuration."""
        done = subprocess.run(["chroot", self._root, "/usr/sbin/smtpd", "-n"], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stderr

    def start(self) -> None:
        """
        Start it.

        :raises AssertionError: where it does not come up, with its words.
        """
        self._process = subprocess.Popen(
            ["chroot", self._root, "/usr/sbin/smtpd", "-d"],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.wait(lambda: "OpenSMTPD" in self.log() and self._greets())

    def _greets(self) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self._port, timeout=PATIENCE):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Stop it; its other processes end with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
        self._output.close()

    def log(self) -> str:
        """What it has logged."""
        return (self._root / "maillog").read_text(errors="replace")

    def submit(self, recipients: Sequence[str]) -> dict[str, tuple[int, str]]:
        """
        Hand it a message.

        :returns: the reply to each recipient.
        """
        with smtplib.SMTP("127.0.0.1", self._port, "client.example.net", timeout=PATIENCE) as client:
            client.ehlo()
            self.size_limit = int(client.esmtp_features["size"])
            return submit(client, recipients)

    def results(self, count: int) -> dict[str, str]:
        """
        Wait until the log has so many recipients' outcomes.

        :returns: for each, what stands from ``result=`` on.
        """

        def read() -> dict[str, str]:
            lines = re.findall(r" delivery .* to=<([^>]*)> rcpt=.* (result=.*)", self.log())
            return {recipient.lower(): result for recipient, result in lines}

        self.wait(lambda: len(read()) >= count)
        return read()

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        until = time.monotonic() + PATIENCE
        while not is_so():
            ended = self._process is not None and self._process.poll() is not None
            assert not ended, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)
