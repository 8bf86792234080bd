"""``twistd lmtp`` as a process of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from programs import Program

#: What starts one, with options of ``lmtp``, and waits until it listens.
Daemon = Callable[..., Awaitable[Program]]


async def start_daemon(start_program: Callable[..., Program], directory: Path, *options: str) -> Program:
    """
    :param start_program: what starts programs.
    :param directory: where it runs.
    :param options: of ``lmtp``.
    :returns: it, once it listens.
    """
    twistd = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
    program = start_program(*twistd, "-n", "--pidfile=", "lmtp", *options, directory=str(directory))
    await program.says("listening on")
    return program


def listening_port(program: Program) -> int:
    """The port of 127.0.0.1 that the kernel gave it."""
    (port,) = re.findall(r"listening on 127\.0\.0\.1:(\d+)", "\n".join(program.lines.seen))
    return int(port)
