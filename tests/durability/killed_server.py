"""
Servers that are killed at random moments under load, again and again on the same mailboxes, and what they leave behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
from sent_messages import Message, Session, port_of, token_of

#: Sessions at a time.
SESSIONS = 4
#: Messages that each tries to send: more than it will come to.
_MESSAGES = 200
#: Beyond what a message may keep in memory: it is spooled.
_LARGE = 1_100_000
_MAILBOXES = [
    f"u{number}{detail}@{domain}.example"
    for domain in ("one", "two")
    for number in range(8)
    for detail in ("", "+lists", "+work.done")[: 1 + number % 3]
]
#: Folders are made, and each mailbox has its ``maildirsize``.
_OPTIONS = "detail=folder,create=yes,quota=1T"
TWISTD = "from twisted.scripts.twistd import run; run()"


def start(directory: Path, mail: str, program: str = TWISTD, options: Sequence[str] = ()) -> subprocess.Popen[str]:
    """
    :param directory: where it runs.
    :param mail: the argument of ``maildir:``.
    :param program: in Python, what runs ``twistd``.
    :param options: more of them.
    :returns: a server, which says on its standard output where it listens.
    """
    return subprocess.Popen(
        [sys.executable, "-c", program, "-n", "--pidfile=", "lmtp", "--port=0", f"--backend=maildir:{mail}", *options],
        cwd=directory,
        # What measures coverage never gets to write its file, and takes longer to start than the server.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@attrs.define
class Figures:
    """What was seen, over all kills."""

    kills: int = 0
    promises: int = 0
    large: int = 0
    unanswered: int = 0
    left_in_tmp: int = 0

    @classmethod
    def sum(cls, every: Iterable[Figures]) -> Figures:
        """Of several."""
        return cls(*map(sum, zip(*map(attrs.astuple, every), strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {self.promises} copies answered with 250, {self.large} of large messages, all whole; "
            f"{self.unanswered} more whose 250 never came, whole too; {self.left_in_tmp} files left in tmp"
        )


class KilledServer:
    """
    One server after the other, on the same mailboxes.

    :param directory: where they run; it is made.
    :param seed: of the messages and the moments.
    :param figures: what is added to.
    :param program: in Python, what runs ``twistd``.
    :ivar mail: where the mailboxes are.
    :ivar round: counts them.
    :ivar sent: the messages of this round, by their tokens; what was sent is among them.
    """

    def __init__(self, directory: Path, seed: str, figures: Figures, program: str = TWISTD) -> None:
        self._directory = directory
        self._program = program
        self.mail = directory / "mail"
        self._random = random.Random(seed)
        self._figures = figures
        self._seed = seed
        self.round = 0
        self.sent: dict[str, Message] = {}
        directory.mkdir(parents=True)

    def kill(self) -> None:
        """
        Start a server, kill it under load, and look what is there.

        :raises AssertionError: where something is lost, partial, or there twice; it names the seed.
        """
        self.round += 1
        process = start(self._directory, f"mail,{_OPTIONS}", self._program)
        try:
            assert process.stdout is not None
            port = port_of(process.stdout)
            # Whoever does not read its log in time holds it up.
            reader = threading.Thread(target=process.stdout.read)
            reader.start()
            sessions = self._load(process, port)
        finally:
            process.kill()
            process.wait()
        reader.join()
        process.stdout.close()
        self.look({(message.token, mailbox) for session in sessions for message, mailbox in session.promised.values()})
        self._figures.kills += 1

    def _load(self, process: subprocess.Popen[str], port: int) -> list[Session]:
        sessions = [Session(port) for _ in range(SESSIONS)]
        plans = [self.plan(number) for number in range(SESSIONS)]
        self.sent = {message.token: message for plan in plans for message in plan}
        with ThreadPoolExecutor(SESSIONS) as pool:
            ends = [pool.submit(_deliver, *pair) for pair in zip(sessions, plans, strict=True)]
            # The moment, in seconds after the load began. At the very first there are directories to be made.
            threading.Event().wait(self._random.uniform(0.0, 0.02 if self.round % 5 == 1 else 0.25))
            process.send_signal(signal.SIGKILL)
        for end in ends:
            end.result()
        return sessions

    def plan(self, session: int) -> list[Message]:
        """What a session of this round sends."""
        choose = self._random
        return [
            Message.make(
                f"r{self.round}s{session}m{number}",
                choose.sample(_MAILBOXES, choose.choice((1, 1, 1, 2, 5))),
                _LARGE if choose.random() < 0.04 else choose.choice((200, 4000, 40_000)),
            )
            for number in range(_MESSAGES)
        ]

    def look(self, promises: set[tuple[str, str]]) -> None:
        """
        Look at everything in ``new``, and read it: it goes to ``cur``.

        :param promises: of each copy that was answered with 250, the message's token and the mailbox.
        :raises AssertionError: where something is lost, partial, or there twice.
        """
        found: Counter[tuple[str, str]] = Counter()
        for file in self.mail.rglob("new/*"):
            mailbox = file.parents[1].relative_to(self.mail).as_posix()
            octets = file.read_bytes()
            token = token_of(octets)
            message = self.sent.get(token or "")
            self._expect(message is not None and message.is_whole(octets), f"{file} is not whole")
            assert message is not None
            self._expect(mailbox in message.mailboxes, f"{file} is not for {mailbox}")
            found[message.token, mailbox] += 1
            file.rename(file.parents[1] / "cur" / f"{file.name}:2,S")
        lost = promises - found.keys()
        self._expect(not lost, f"answered with 250 and lost: {sorted(lost)}")
        twice = [copy for copy, number in found.items() if number > 1]
        self._expect(not twice, f"there twice: {twice}")
        figures = self._figures
        figures.promises += len(promises)
        figures.large += sum(len(self.sent[token].content) > 10**6 for token, _ in promises)
        figures.unanswered += len(found.keys() - promises)
        for left in self.mail.rglob("tmp/*"):
            figures.left_in_tmp += 1
            left.unlink()

    def _expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            raise AssertionError(f"after kill {self.round} of seed {self._seed!r}: {what}")


def _deliver(session: Session, plan: list[Message]) -> None:
    """Until the server is gone."""
    with contextlib.closing(session), contextlib.suppress(OSError):
        session.greet()
        for message in plan:
            session.deliver(message)
