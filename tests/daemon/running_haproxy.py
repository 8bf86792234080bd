"""Real HAProxy processes."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running_twistd import Running

_CONFIGURATION = """\
global
    log stdout format raw local0
defaults
    mode tcp
    log global
    option log-health-checks
    timeout connect 10s
    timeout client 30s
    timeout server 30s
    timeout check 10s
listen mail
    bind fd@{listener}
{checks}
    server store {server}
"""


class HAProxy(Running):
    """
    An HAProxy that passes connections on.

    :param directory: where its configuration is put.
    :param server: what follows the name of the server in it.
    :param checks: further lines of it.
    :param path: of a Unix socket where it listens, instead of a port.
    :ivar port: where it listens otherwise.
    """

    def __init__(self, directory: Path, server: str, checks: str = "", path: Path | None = None) -> None:
        program = shutil.which("haproxy", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
        assert program is not None
        configuration = directory / "haproxy.cfg"
        # It is handed a socket that listens: nobody has to wait for it, or to find a free port for it.
        with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as listener:
            listener.bind(("127.0.0.1", 0) if path is None else str(path))
            listener.listen()
            self.port = listener.getsockname()[1] if path is None else None
            number = listener.fileno()
            configuration.write_text(_CONFIGURATION.format(listener=number, server=server, checks=checks))
            command = [program, "-db", "-f", str(configuration)]
            super().__init__(command, directory, stderr=subprocess.STDOUT, pass_fds=[number])


@contextmanager
def haproxy(directory: Path, server: str, checks: str = "", path: Path | None = None) -> Iterator[HAProxy]:
    """A running HAProxy, which does not outlive the block: see :class:`HAProxy`."""
    running = HAProxy(directory, server, checks, path)
    try:
        yield running
    finally:
        running.kill()
