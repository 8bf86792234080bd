"""The backend: which mailbox, whether it exists, and what became of the message. It runs in the reactor thread."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import choose
from lmtp_twisted.backends.maildir.commit import Filer
from lmtp_twisted.backends.maildir.directories import Mailboxes, most_open
from lmtp_twisted.backends.maildir.disk import Disk, Fsync, can_sync_together
from lmtp_twisted.backends.maildir.job import Job, Names
from lmtp_twisted.backends.maildir.lanes import SIZES, Lane
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.backends.maildir.maildirsize import Limits
from lmtp_twisted.backends.maildir.naming import Case, Layout, Naming
from lmtp_twisted.backends.maildir.quota import OverQuota, Quota
from lmtp_twisted.backends.maildir.refusals import entry_makes_no_sense, refusal_of
from lmtp_twisted.backends.maildir.subaddress import Detail, Subaddresses
from lmtp_twisted.backends.maildir.sweep import Sweeper
from lmtp_twisted.backends.sized import SizedDelivery
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import DeliveryError, TemporaryFailure
from lmtp_twisted.interfaces import ILMTPDelivery, IMeasuredBackend, IReceivedMessage
from lmtp_twisted.lookups import Lookups
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.settings import Settings
from lmtp_twisted.threads import default_pool

_log = Logger(namespace="lmtp_twisted")

#: Messages that may wait, and octets of them in memory, before new ones are put off.
MOST_WAITING = 1000
MOST_OCTETS = 256 * 1024 * 1024
#: Mailboxes of a message that is filed with others.
MOST_OF_SMALL = 20


@implementer(IMeasuredBackend, ILMTPDelivery)
class MaildirBackend:
    """
    Stores messages in Maildirs. Its own delivery, since it keeps nothing of a message before ``deliver``::

        factory = LMTPFactory(backend=MaildirBackend("/srv/mail"))

    A recipient without a domain, such as ``<Postmaster>``, has its mailbox in the domain ``hostname``. Names are in
    Unicode's normal form C. Below the directory no symbolic link is followed. A mailbox is its directory: ``tmp``,
    ``new`` and ``cur`` are made in it where they are missing.

    :param directory: where the mailboxes are; it may hold ``{local}`` and ``{domain}``, without any of them
        ``/{domain}/{local}`` is added. A relative one is below the current directory of now.
    :param create: whether a missing mailbox is made; else its recipient does not exist.
    :param case: of local parts, but not of the folders that details name.
    :param detail: whether ``user+detail`` goes where ``user`` goes, or into that folder of the mailbox (Maildir++).
    :param separator: characters of which the first in a local part begins its detail; where it is empty nothing does.
    :param limits: how much a mailbox may hold, its folders included (Maildir++); ``None`` is any number of messages.
        What the directory of recipients says of one comes first, as it does for where the mailbox is.
    :param overquota: what becomes of mail for a mailbox that is full.
    :param create_folders: whether a missing folder is made, by whoever writes to it; else its mail goes where mail
        without a detail goes.
    :param newlines: of the files.
    :param fsync: how to wait for the disk.
    :param hostname: our name; that of the machine by default.
    :param reactor: the global reactor by default.
    :param pool: by default the one that factories without a spool of their own use.
    :raises TypeError: where ``fsync`` is no :class:`Fsync`.
    :raises ValueError: where the directory makes no sense.
    :raises OSError: where the directory does not exist or cannot be made, or cannot be written to.
    """

    def __init__(
        self,
        directory: str,
        *,
        create: bool = True,
        case: Case = Case.FOLD,
        newlines: Newlines = Newlines.LF,
        fsync: Fsync = Fsync.YES,
        detail: Detail = Detail.IGNORE,
        separator: str = "+",
        create_folders: bool = False,
        limits: Limits | None = None,
        overquota: OverQuota = OverQuota.DEFER,
        hostname: str | None = None,
        reactor: Any = None,
        pool: ThreadPool | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        hostname = hostname or Settings().hostname
        if not isinstance(fsync, Fsync):
            raise TypeError(f"fsync is a member of Fsync, not {fsync!r}")
        layout = Layout.parse(directory)
        self._reactor: Any = reactor
        self._pool = pool or default_pool(reactor)
        self._naming = Naming(layout.parts, case, hostname, Subaddresses(detail, separator), layout.root)
        self._create = create
        self._mailboxes = Mailboxes(
            layout.root,
            create=create,
            fsync=fsync is not Fsync.NO,
            depth=len(layout.parts),
            is_hidden=layout.parts[-1].startswith("."),
            create_folders=create_folders,
        )
        self._mailboxes.make_root()
        self._limits = limits
        self._quota = Quota(self._mailboxes, overquota)
        # Whether a mailbox has limits; until the directory of recipients says otherwise, all have the same.
        self._is_limited = limits is not None
        self._sweeper = Sweeper(self._mailboxes, self._pool)
        self._lookups = Lookups(reactor, self._pool)
        filer = Filer(self._mailboxes, hostname, newlines, Disk(fsync), self._quota)
        # Where a batch is synced as one, one thread writes while the other waits for the disk; with more of them each
        # has less to sync together. Where each file is synced by itself, more threads do more of that at a time.
        together = fsync is Fsync.YES and can_sync_together(os.stat(layout.root).st_dev)
        threads, jobs = (2, 64) if together else (4, 16)
        # All files of a batch are open at a time, and the directories of all its mailboxes.
        most = most_open()
        self._lane = Lane(
            self._reactor,
            self._pool,
            filer.file,
            self._answer,
            threads=threads,
            jobs=max(1, min(jobs, most // 4)),
            mailboxes=max(1, min(200, most // 2)),
        )
        # Large messages have threads of their own, and so have those for many: no small one waits for its turn behind
        # 100 MB or a thousand mailboxes.
        self._large_lane = Lane(self._reactor, self._pool, filer.file, self._answer, threads=2)
        self._waiting = 0
        self._octets = 0
        self._idle: list[Deferred[None]] = []

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """Where messages wait and are counted: the ordinary ones, and the large ones."""
        return self._lane, self._large_lane

    def figures(self) -> dict[str, Any]:
        """See :class:`~lmtp_twisted.interfaces.IMeasuredBackend`."""
        lanes, ends = self.lanes, (*map(str, SIZES), "+Inf")
        waiting = sum(lane.depth for lane in lanes)
        counters = [lane.counters for lane in lanes]
        sizes = map(sum, zip(*(counter.sizes for counter in counters), strict=True))
        return {
            "waiting": waiting,
            # They leave the count when their recipients are answered.
            "working": max(0, self._waiting - waiting),
            "batch_messages": {
                "buckets": dict(zip(ends, sizes, strict=True)),
                "sum": sum(counter.jobs for counter in counters),
            },
            "batch_seconds_total": sum(counter.seconds for counter in counters),
        }

    def getDelivery(self, session: SessionInfo) -> MaildirBackend | SizedDelivery:
        """
        This object, or one that remembers the size of the message where a quota asks for it.

        :raises lmtp_twisted.errors.TemporaryFailure: ``451 4.3.2`` while too much waits.
        """
        if self._waiting >= MOST_WAITING or self._octets >= MOST_OCTETS:
            raise TemporaryFailure("Too busy, try again later", enhanced="4.3.2")
        return SizedDelivery(self) if self._is_limited else self

    def validateFrom(self, sender: Sender) -> None:
        """Accept."""

    def validateTo(self, recipient: Recipient) -> Deferred[None] | None:
        """
        Accept who has a mailbox or can have one.

        :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.3`` where no mailbox can have the name, ``550 5.1.1``
            where it does not exist. That it is full is said as ``overquota`` has it.
        :raises lmtp_twisted.errors.TemporaryFailure: ``452 4.2.2`` where it is full.
        """
        return self.validate(recipient, 0)

    def validate(self, recipient: Recipient, octets: int) -> Deferred[None] | None:
        """
        The same for a message whose size is known.

        :param octets: of the message.
        """
        names, limits = self._place_of(recipient)
        names = self._mailboxes.inbox_of(names)
        is_known = self._create or self._mailboxes.knows(names)
        if is_known and (limits is None or self._quota.surely_has_room_for(names, octets, limits)):
            return None
        found: Deferred[None] = self._lookups.run(self._check, names, octets, limits)
        return found.addErrback(self._not_found, names)

    def _check(self, names: Names, octets: int, limits: Limits | None) -> None:
        """In a thread."""
        if not self._create:
            self._mailboxes.check(names)
        if limits is not None:
            self._quota.check(names, octets, limits)

    def _place_of(self, recipient: Recipient) -> tuple[Names, Limits | None]:
        """Its mailbox, and what that may hold."""
        entry = recipient.entry
        if entry is None:
            return self._naming.mailbox_of(recipient.address), self._limits
        try:
            names = self._naming.mailbox_of(recipient.address, entry.mailbox)
            limits = self._limits if entry.quota is None else Limits.of_recipient(entry.quota)
        except ValueError as error:
            _log.error(
                "{recipient}: its entry in the directory makes no sense: {error}",
                recipient=recipient.printable,
                error=error,
            )
            raise entry_makes_no_sense()
        self._is_limited = self._is_limited or limits is not None
        return names, limits

    def _not_found(self, failure: Failure, names: Names) -> None:
        assert failure.value is not None
        raise self._refusal(failure.value, names)

    def deliver(self, message: IReceivedMessage) -> Deferred[list[Any]]:
        """Store it, in the next batch."""
        limits: dict[Names, Limits] = {}
        job = Job(message, [self._mailbox_of(recipient, limits) for recipient in message.recipients], limits)
        self._waiting += 1
        self._octets += job.weight
        is_small = message.inMemory and len(job.mailboxes) <= MOST_OF_SMALL
        (self._lane if is_small else self._large_lane).put(job)
        return job.done

    def _mailbox_of(self, recipient: Recipient, all_limits: dict[Names, Limits]) -> Names | Exception:
        try:
            names, limits = self._place_of(recipient)
        except DeliveryError as error:
            return error
        if limits is not None:
            all_limits[self._mailboxes.inbox_of(names)] = limits
        return names

    def aborted(self, reason: str) -> None:
        """Nothing was reserved."""

    def _answer(self, job: Job) -> None:
        self._waiting -= 1
        self._octets -= job.weight
        for names, error in job.errors.items():
            job.errors[names] = self._refusal(error, names)
        if not job.is_cancelled:
            job.done.callback(job.outcomes())
        elif job.filed:
            _log.warn(
                "{id}: filed just before it was cancelled, so it may come once more into {mailboxes}",
                id=job.message.id,
                mailboxes=sorted("/".join(names) for names in job.filed),
            )
        if not self._waiting:
            idle, self._idle = self._idle, []
            for deferred in idle:
                deferred.callback(None)

    def _refusal(self, error: BaseException, names: Names) -> DeliveryError:
        refusal = refusal_of(error)
        if isinstance(error, OSError):
            _log.error("mailbox {mailbox}: {error}", mailbox="/".join(names), error=error)
        elif refusal is not error:
            _log.failure("mailbox {mailbox}", Failure(error), mailbox="/".join(names))
        return refusal

    def shut_down(self) -> Deferred[None]:
        """
        Wait for what is under way and close what is open. The backend can still be used afterwards.

        :returns: fires when nothing waits any more.
        """
        idle: Deferred[None] = succeed(None)
        if self._waiting:
            idle = Deferred()
            self._idle.append(idle)
        return idle.addCallback(self._close)

    def _close(self, _: None) -> None:
        self._sweeper.stop()
        for lane in (self._lane, self._large_lane):
            lane.dismiss()
        self._mailboxes.close()


# Mailboxes, folders.
_CREATES = {"yes": (True, True), "mailboxes": (True, False), "no": (False, False)}
_DETAILS = {detail.value: detail for detail in Detail}
_CASES = {case.value: case for case in Case}
_FSYNCS = {fsync.value: fsync for fsync in Fsync}
_OVERQUOTAS = {overquota.value: overquota for overquota in OverQuota}
_NEWLINES = {newlines.value: newlines for newlines in Newlines}


def from_description(
    context: BackendContext,
    argument: str,
    *,
    create: str = "mailboxes",
    detail: str = "ignore",
    separator: str = "+",
    quota: str = "",
    overquota: str = "defer",
    case: str = "fold",
    newlines: str = "lf",
    fsync: str = "yes",
) -> MaildirBackend:
    """``maildir:DIRECTORY``"""
    create_mailboxes, create_folders = choose("create", create, _CREATES)
    directory = context.path(argument)
    backend = MaildirBackend(
        _what_there_is_of(directory) if context.is_trial and create_mailboxes else directory,
        create=create_mailboxes,
        create_folders=create_folders,
        detail=choose("detail", detail, _DETAILS),
        separator=separator,
        limits=Limits.parse(quota) if quota else None,
        overquota=choose("overquota", overquota, _OVERQUOTAS),
        case=choose("case", case, _CASES),
        newlines=choose("newlines", newlines, _NEWLINES),
        fsync=choose("fsync", fsync, _FSYNCS),
        hostname=context.hostname,
        reactor=context.reactor,
        pool=context.pool,
    )
    context.add_shutdown(backend.shut_down)
    return backend


def _what_there_is_of(directory: str) -> str:
    """The directory, or the nearest one above it in which it could be made, with the same mailboxes."""
    layout = Layout.parse(directory)
    root = layout.root
    while not os.path.lexists(root):
        root = os.path.dirname(root)
    return os.path.join(root, *layout.parts)
