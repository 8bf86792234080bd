"""
``python -m benchmarks.syncs``: what it costs the Maildir backend to wait for the disk, file by file or for all at once.

One thread files batches of messages, with nothing else around it: no session, no reactor.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from twisted.internet.address import UNIXAddress

from lmtp_twisted.backends.maildir.commit import Filer
from lmtp_twisted.backends.maildir.directories import Mailboxes
from lmtp_twisted.backends.maildir.disk import Disk, Fsync, can_sync_together
from lmtp_twisted.backends.maildir.job import Job
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.envelope import Envelope, parse_recipient, parse_sender
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.spool import Content, Spool

MAILBOXES = 100
CONTENT = b"Subject: load\r\n\r\n" + (b"x" * 70 + b"\r\n") * 57
BATCHES = (1, 2, 4, 16, 64)
#: What one batch of the backend's reaches at the most.
MOST_MAILBOXES = 200
WAYS = {Fsync.EACH: "fsync each", Fsync.YES: "together"}


class Filing:
    """
    Files batches below a directory.

    :param directory: an empty one.
    :param fsync: how to wait for the disk.
    :param recipients: of each message.
    """

    def __init__(self, directory: Path, fsync: Fsync, recipients: int) -> None:
        mailboxes = Mailboxes(str(directory), create=True, fsync=True)
        self._filer = Filer(mailboxes, "bench", Newlines.LF, Disk(fsync))
        self._sender = parse_sender(b"FROM:<sender@example.net>")
        self._everybody = [parse_recipient(b"TO:<u%d@example.org>" % number) for number in range(MAILBOXES)]
        self._session = SessionInfo(UNIXAddress(None), UNIXAddress(None), lhlo_name="load.example.net")
        self._recipients = recipients
        self._next = 0
        self.microseconds(MAILBOXES, MAILBOXES)  # makes the mailboxes

    def _job(self) -> Job:
        content = Content(Spool(None, None))  # type: ignore[arg-type]  # it never becomes large enough for a file
        content.append(CONTENT)
        first, self._next = self._next, self._next + self._recipients
        recipients = tuple(self._everybody[(first + place) % MAILBOXES] for place in range(self._recipients))
        envelope = Envelope(self._sender, recipients)
        message = ReceivedMessage("bench", self._session, envelope, content, "bench", time.time())
        return Job(message, [("example.org", recipient.address.local) for recipient in recipients])

    def microseconds(self, messages: int, batch: int) -> float:
        """How long a message takes, in batches of this size."""
        batches = [[self._job() for _ in range(batch)] for _ in range(max(1, messages // batch))]
        began = time.perf_counter()
        for jobs in batches:
            self._filer.file(jobs)
        seconds = time.perf_counter() - began
        if any(job.errors for jobs in batches for job in jobs):
            raise SystemExit("a message was not filed")
        return seconds / (len(batches) * batch) * 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.syncs", description="What waiting for the disk costs.")
    parser.add_argument("--repeat", type=int, metavar="N", default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--messages", type=int, metavar="N", default=256, help="of each round (256)")
    parser.add_argument("--directory", type=Path, metavar="DIR", default=Path("/var/tmp"), help="for mail (/var/tmp)")
    parsed = parser.parse_args(arguments)
    if not can_sync_together(parsed.directory.stat().st_dev):
        raise SystemExit(f"{parsed.directory} is on a file system where each file is synced by itself")
    print(f"{'':<24}" + "".join(f"{way:>14}" for way in WAYS.values()) + f"{'ratio':>8}   (µs a message)")
    # All is kept until the end: ext4 passes over inodes that were freed a moment ago.
    below = Path(tempfile.mkdtemp(prefix="lmtp-syncs-", dir=parsed.directory))
    try:
        for recipients in (1, 5):
            filings = {}
            for way in WAYS:
                directory = below / f"{recipients}-{way.value}"
                directory.mkdir()
                filings[way] = Filing(directory, way, recipients)
            for batch in BATCHES:
                if batch * recipients > MOST_MAILBOXES:
                    continue
                rounds: dict[Fsync, list[float]] = {way: [] for way in WAYS}
                for _ in range(parsed.repeat):
                    for way, filing in filings.items():
                        rounds[way].append(filing.microseconds(parsed.messages, batch))
                each, together = (median(rounds[way]) for way in WAYS)
                title = f"{recipients} mailbox{'es' if recipients > 1 else ''}, batches of {batch}"
                print(f"{title:<24}{each:>14,.0f}{together:>14,.0f}{each / together:>8.1f}")
    finally:
        shutil.rmtree(below, ignore_errors=True)


if __name__ == "__main__":
    main()
