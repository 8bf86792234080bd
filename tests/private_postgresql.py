"""A PostgreSQL of a test's own: on loopback, below a directory of its own, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peer_programs import find

#: Of the users below.
PASSWORD = "not-in-a-log"
#: Seconds that it may take to start or to stop.
PATIENCE = "60"


def _user() -> str | None:
    """PostgreSQL does not run as root, and its package brings a user who is not."""
    return "postgres" if os.geteuid() == 0 else None


class PrivatePostgreSQL:
    """
    It is made, and not started.

    :ivar port: of 127.0.0.1.
    """

    def __init__(self) -> None:
        # Not pytest's directory, where only root may go.
        self.directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        password = self.directory / "password"
        password.write_text(PASSWORD)
        if (user := _user()) is not None:
            entry = pwd.getpwnam(user)
            for path in (self.directory, password):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self._run(
            "initdb",
            "-D",
            "data",
            "-U",
            "admin",
            "--pwfile=password",
            "-A",
            "scram-sha-256",
            "-N",
            "-E",
            "UTF8",
            "--locale=C",
        )
        with (self.directory / "data/postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                "fsync = off\nmax_connections = 20\nshared_buffers = 8MB\n"
            )

    def _run(self, program: str, *arguments: str) -> None:
        command = [find(program) or program, *arguments]
        done = subprocess.run(
            command,
            cwd=self.directory,
            user=_user(),
            # What it starts keeps these, so nobody may wait for their end.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
        log = self.directory / "log"
        assert done.returncode == 0, f"{program}: {done.returncode} {log.read_text() if log.exists() else ''}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", PATIENCE, "start")

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "-t", PATIENCE, "stop")

    def type(self, sql: str, database: str = "postgres", user: str = "admin") -> str:
        """Have psql run some SQL, and give what it prints."""
        done = subprocess.run(
            self.psql(database, user),
            input=sql,
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def psql(self, database: str, user: str) -> Sequence[str]:
        """The command for it."""
        place = ("-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database)
        return (find("psql") or "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *place)

    def remove(self) -> None:
        """Stop it, where it runs, and leave nothing."""
        if (self.directory / "data/postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.directory)
