"""A server with workers, of which one after the other is killed under load, and in the end the parent."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
from killed_server import Figures, KilledServer, start
from sent_messages import PATIENCE, Message, Session, port_of, token_of

#: Sessions at a time, of two workers.
SESSIONS = 8
_PROCESS = re.compile(r"P(\d+)Q")


@attrs.define
class Sender:
    """A session, and what became of it."""

    session: Session
    plan: list[Message]
    was_lost: bool = False

    def deliver(self, stop: threading.Event) -> None:
        """One message after the other, until it is told to stop, or is told that the server does, or is cut off."""
        try:
            self.session.greet()
            for message in self.plan:
                if stop.is_set():
                    return
                self.session.deliver(message)
        except OSError:
            self.was_lost = True
        except AssertionError as error:
            if "b'421 4.3.2 " not in str(error):
                raise
        finally:
            self.session.close()


class KilledWorkers:
    """
    :param directory: where it runs; it is made.
    :param seed: of the messages and the moments.
    :ivar workers: the processes of now, by their numbers.
    :ivar lost: how many sessions were cut off.
    :ivar kept: how many were not.
    """

    def __init__(self, directory: Path, seed: str) -> None:
        self.figures = Figures()
        self._mailboxes = KilledServer(directory, seed, self.figures)
        self._random = random.Random(seed)
        self._process = start(directory, "mail,detail=folder,create=yes", options=["--workers=2"])
        assert self._process.stdout is not None
        self._port = port_of(self._process.stdout)
        self.workers: dict[int, int] = {}
        self._changed = threading.Condition()
        # Whoever does not read its log in time holds it up.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.lost = self.kept = 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if match := re.search(r"worker (\d) \(process (\d+)\) serves$", line):
                with self._changed:
                    self.workers[int(match[1])] = int(match[2])
                    self._changed.notify_all()

    def _wait_for(self, number: int, other_than: int | None) -> int:
        with self._changed:
            assert self._changed.wait_for(lambda: self.workers.get(number) not in (None, other_than), PATIENCE)
            return self.workers[number]

    def kill_worker(self) -> None:
        """
        Kill one of them under load, and see that only its sessions are cut off, and that another one comes.

        :raises AssertionError: where something is lost, partial, or there twice, or others have noticed anything.
        """
        number = self._random.choice((1, 2))
        for each in (1, 2):
            self._wait_for(each, None)
        victim = self.workers[number]
        senders = self._load(victim)
        for sender in senders:
            # A session is of one process, and its files have that in their names.
            processes = self._processes_of(sender)
            assert len(processes) <= 1, f"a session of {processes}"
            if sender.was_lost:
                assert processes <= {victim}, f"a session of {processes} was cut off, and {victim} was killed"
            self.lost += sender.was_lost
            self.kept += not sender.was_lost
        self._look(senders)
        self._wait_for(number, victim)
        self.figures.kills += 1

    def kill_parent(self) -> None:
        """
        Kill the parent under load: its workers finish what they have, and end.

        :raises AssertionError: where something is lost, partial, or there twice, or a worker goes on.
        """
        for each in (1, 2):
            self._wait_for(each, None)
        ends = [os.pidfd_open(pid) for pid in self.workers.values()]
        senders = self._load(self._process.pid)
        assert not any(sender.was_lost for sender in senders), "a session was cut off"
        for end in ends:
            ready, _, _ = select.select([end], [], [], PATIENCE)
            assert ready, "a worker goes on without its parent"
            os.close(end)
        self._look(senders)
        self.figures.kills += 1

    def close(self) -> None:
        """It ends, if it has not yet."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.terminate()
            self._process.wait(PATIENCE)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _load(self, victim: int) -> list[Sender]:
        self._mailboxes.round += 1
        senders = [Sender(Session(self._port), self._mailboxes.plan(number)) for number in range(SESSIONS)]
        self._mailboxes.sent = {message.token: message for sender in senders for message in sender.plan}
        stop = threading.Event()
        with ThreadPoolExecutor(SESSIONS) as pool:
            ends = [pool.submit(sender.deliver, stop) for sender in senders]
            # The moment, in seconds after the load began; and others are seen to go on after it.
            stop.wait(self._random.uniform(0.05, 0.3))
            os.kill(victim, signal.SIGKILL)
            stop.wait(0.2)
            stop.set()
        for end in ends:
            end.result()
        return senders

    def _processes_of(self, sender: Sender) -> set[int]:
        tokens = {message.token for message in sender.plan}
        found = set()
        for file in self._mailboxes.mail.rglob("new/*"):
            if token_of(file.read_bytes()) in tokens:
                match = _PROCESS.search(file.name)
                assert match, file
                found.add(int(match[1]))
        return found

    def _look(self, senders: list[Sender]) -> None:
        self._mailboxes.look(
            {(message.token, mailbox) for sender in senders for message, mailbox in sender.session.promised.values()}
        )
