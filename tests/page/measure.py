"""
What an open status page costs the server: ``python tests/page/measure.py``.

A server under load, and by turns none, one and ten pages that are told.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from threading import Event, Thread

# What several directories of tests share.
sys.path[:0] = [str(Path(__file__).parents[1])]

from page_load import Load  # noqa: E402  # after the path
from page_server import serve  # noqa: E402  # after the path

CLIENTS, PAUSE = 4, 0.004
SECONDS, ROUNDS = 10.0, 5


class Page:
    """
    A connection that is told, and reads.

    :ivar octets: how many it has read.
    """

    def __init__(self, port: int) -> None:
        self.octets = 0
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._socket.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            self.octets += len(data)

    def close(self) -> None:
        """It is closed."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def processor_seconds(pid: int) -> float:
    """Of a process, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and say it."""
    shares: dict[int, list[float]] = {0: [], 1: [], 10: []}
    octets: list[float] = []
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="page-"))
        server = stack.enter_context(serve(Path(directory)))
        loads = [stack.enter_context(Load(server.port, PAUSE, number)) for number in range(CLIENTS)]
        pid, over = server.running.process.pid, Event()
        for _ in range(ROUNDS):
            for count, found in shares.items():
                pages = [Page(server.web) for _ in range(count)]
                # Beyond what they are told at first.
                over.wait(2)
                read, begun, before = sum(p.octets for p in pages), time.monotonic(), processor_seconds(pid)
                over.wait(SECONDS)
                passed = time.monotonic() - begun
                found.append(100 * (processor_seconds(pid) - before) / passed)
                if pages:
                    octets.append((sum(p.octets for p in pages) - read) / passed / count / 1000)
                for page in pages:
                    page.close()
        sent = sum(load.sent for load in loads)
    print(f"{sent} messages, each for three recipients of whom one in ten fails")
    for count, found in shares.items():
        print(f"{count:2} pages: {median(found):.1f} % of a processor ({min(found):.1f} to {max(found):.1f})")
    print(f"{median(octets):.0f} kB/s for each page")


if __name__ == "__main__":
    main()
