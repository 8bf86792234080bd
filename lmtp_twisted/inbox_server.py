"""
A server in a process of its own, for tests of what sends mail: ``twistd lmtp`` with a backend that keeps messages, and
what it has kept. It blocks, needs no reactor, and works beside any test framework.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from queue import Empty, Queue
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

# The script of the same name, wherever it was installed.
_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
_LISTENS = re.compile(r"(listening on|status on http://)\s*127\.0\.0\.1:(\d+)")
_LINES = 200
# As long as the server lets one wait in one request.
_MOST_SECONDS = 60


class InboxServer:
    """
    Used as a context, it runs inside of it::

        with InboxServer("faults:defer,every=2") as server:
            deliver_somehow(server.host, server.port)
            (message,) = server.wait(to="bob@example.org")
            assert server.read(message)["text"] == "Hello!\\n"

    :param backend: its description.
    :param options: more of them, for ``twistd lmtp``, such as ``"--size-limit", "1M"``.
    :param patience: seconds that it may take to start and to answer.
    :ivar host: where it takes mail, ``127.0.0.1``.
    :ivar port: the port there.
    :ivar web: the port of its pages; the inbox is at ``http://127.0.0.1:WEB/inbox``.
    """

    host = "127.0.0.1"
    port: int
    web: int

    def __init__(self, backend: str = "memory:", *options: str, patience: float = 30.0) -> None:
        self._arguments = ("--port", "0", "--http", "0", "--backend", backend, *options)
        self._patience = patience
        self._open = build_opener(ProxyHandler({})).open
        self._log: deque[str] = deque(maxlen=_LINES)
        self._lines: Queue[str | None] = Queue()

    @property
    def log(self) -> Sequence[str]:
        """The last lines that it has written."""
        return tuple(self._log)

    def __enter__(self) -> InboxServer:
        command = [*_TWISTD, "-n", "--pidfile=", "lmtp", *self._arguments]
        self._process = subprocess.Popen(  # noqa: S603  # what it is comes from the test
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            ports = self._ports()
            self.port, self.web = ports["listening on"], ports["status on http://"]
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """It ends, and forgets all."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line.rstrip("\n"))
            if self._lines.qsize() < _LINES:
                self._lines.put(line)
        self._lines.put(None)

    def _ports(self) -> dict[str, int]:
        ports: dict[str, int] = {}
        deadline = monotonic() + self._patience
        while len(ports) < 2:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                line = None
            if line is None:
                raise RuntimeError("the server did not start:\n" + "\n".join(self._log))
            match = _LISTENS.search(line)
            if match is not None:
                ports[match[1]] = int(match[2])
        return ports

    def _ask(self, path: str, method: str = "GET", waits: float = 0.0) -> bytes:
        request = Request(f"http://{self.host}:{self.web}/{path}", method=method)
        try:
            with self._open(request, timeout=self._patience + waits) as response:
                body: bytes = response.read()
                return body
        except HTTPError as error:
            with error:
                raise LookupError(f"{error.code} {error.read().decode('utf-8', 'replace').strip()}") from None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What has come, the latest last, each as in ``/inbox.json``."""
        found: list[dict[str, Any]] = json.loads(self._ask("inbox.json"))["messages"]
        return found

    def wait(self, count: int = 1, seconds: float = 10.0, **wanted: str) -> list[dict[str, Any]]:
        """
        Wait for messages.

        :param count: how many.
        :param seconds: for how long.
        :param wanted: parts of what they shall have: ``to``, ``sender`` and ``subject``.
        :returns: all that have it, at least so many.
        :raises TimeoutError: where there are fewer.
        """
        if "sender" in wanted:
            wanted["from"] = wanted.pop("sender")
        deadline = monotonic() + seconds
        while True:
            left = max(0, min(_MOST_SECONDS, round(deadline - monotonic())))
            query = urlencode({**wanted, "count": count, "wait": left})
            found = json.loads(self._ask(f"inbox.json?{query}", waits=left))
            if found["count"] >= count:
                messages: list[dict[str, Any]] = found["messages"]
                return messages
            if monotonic() >= deadline:
                raise TimeoutError(f"{found['count']} messages instead of {count} after {seconds} s")

    def read(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        A message taken apart.

        :param message: as :attr:`messages` and :meth:`wait` give it.
        :returns: what ``/inbox/KEY.json`` says.
        :raises LookupError: where it is not kept any more.
        """
        found: dict[str, Any] = json.loads(self._ask(f"inbox/{quote(message['key'])}.json"))
        return found

    def raw(self, message: dict[str, Any]) -> bytes:
        """
        The content of a message, as it was received.

        :raises LookupError: where it is not kept any more.
        """
        return self._ask(f"inbox/{quote(message['key'])}/raw")

    def part(self, message: dict[str, Any], number: int) -> bytes:
        """
        What a part of a message encodes: an attachment.

        :param number: of the part, as :meth:`read` gives it.
        :raises LookupError: where there is none.
        """
        return self._ask(f"inbox/{quote(message['key'])}/parts/{number}")

    def clear(self) -> None:
        """Forget all that has come."""
        self._ask("inbox.json", "DELETE")
