"""
``python -m benchmarks.abuse.endurance``: a server that takes 200,000 messages, and what its memory makes of it.

No two messages have the same sender or recipient, since caches go by these; in Maildirs they are details of a hundred
users. What is kept for good shows in how much the server has grown since the first 20,000.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.abuse.clients import Field
from benchmarks.abuse.record import write_record
from benchmarks.process import ROOT, Server, ServerError, end_on_sigterm, free_port

MESSAGES, WARM = 200_000, 20_000
GROWTH_TARGET = 5 * 2**20
SESSIONS = 20
#: Looks at the memory, evenly spread.
LOOKS = 10
BACKENDS = {"null": "null:", "maildir": "maildir:{}/mail"}


async def send(port: int, messages: int) -> None:
    """Send so many messages, and print a line each time that a tenth of them is answered."""
    field = Field(port, 0, 0, SESSIONS)
    sent = answered = 0

    async def session() -> None:
        nonlocal sent, answered
        client = await field.introduced()
        while sent < messages:
            sent += 1
            number = sent
            await client.ask(
                b"MAIL FROM:<s%d@%d.example.net> ENVID=e%d\r\n"
                b"RCPT TO:<u%d+d%d@example.org> ORCPT=rfc822;o%d@x\r\nDATA\r\n"
                % (number, number % 5000, number, number % 100, number, number)
            )
            await client.say(b"Message-ID: <%d@x>\r\nSubject: %d\r\n\r\nHello\r\n.\r\n" % (number, number))
            reply = await client.replies()
            if not reply.startswith(b"250"):
                raise SystemExit(reply.decode("latin-1"))
            answered += 1
            if answered % (messages // LOOKS) == 0:
                print(answered, flush=True)

    await asyncio.gather(*(session() for _ in range(SESSIONS)))


def endured(backend: str, messages: int, options: Sequence[str] = ()) -> dict[str, Any]:
    """
    :param backend: of :data:`BACKENDS`.
    :param messages: how many.
    :param options: of the server, besides.
    :returns: what was seen: the resident memory after each tenth of them, in octets.
    :raises ServerError: where not all were taken.
    """
    directory = Path(tempfile.mkdtemp(prefix="lmtp-abuse-", dir="/var/tmp"))
    try:
        port = free_port()
        command = contenders.twistd(port, directory, BACKENDS[backend].format(directory), *options)
        with Server(command, port, directory) as server:
            began = time.monotonic()
            arguments = [
                sys.executable,
                "-m",
                "benchmarks.abuse.endurance",
                "--send",
                str(port),
                "--messages",
                str(messages),
            ]
            with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as sender:
                assert sender.stdout is not None
                resident = [server.memory("VmRSS") for _ in sender.stdout]
            if sender.returncode or len(resident) < LOOKS:
                raise ServerError(f"{len(resident)} tenths were taken: {server.last_words()}")
            return {
                "backend": backend,
                "options": list(options),
                "messages": messages,
                "seconds": time.monotonic() - began,
                "resident": resident,
                "growth": max(resident[1:]) - resident[0],
            }
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs what the command line asks for.

    :returns: the exit status: 1 where a server has grown too much.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.abuse.endurance", description="What a server keeps.")
    parser.add_argument("--backends", metavar="NAME,…", default="null,maildir", help="of null, maildir")
    parser.add_argument("--messages", type=int, metavar="N", default=MESSAGES, help=f"of each run ({MESSAGES})")
    parser.add_argument("--options", metavar="WORDS", default="", help="of the server, besides")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was seen")
    parser.add_argument("--send", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.send:
        asyncio.run(send(parsed.send, parsed.messages))
        return 0
    end_on_sigterm()
    results = []
    for backend in parsed.backends.split(","):
        result = endured(backend, parsed.messages, parsed.options.split())
        results.append(result)
        sizes = " ".join(f"{octets / 2**20:.1f}" for octets in result["resident"])
        print(f"{backend:<9}{result['growth'] / 2**20:>6.1f} MiB in {result['seconds']:.0f} s: {sizes}", flush=True)
    if parsed.json:
        write_record(parsed.json, "python -m benchmarks.abuse.endurance", arguments, {"runs": results})
    return 0 if all(result["growth"] < GROWTH_TARGET for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
