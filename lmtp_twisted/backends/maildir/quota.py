"""
How much a mailbox may hold. Its methods block: they are for threads, but for :meth:`Quota.surely_has_room_for`.

What is on its way is a line in ``maildirsize`` before the message is in its place, appended with one write. What stands
before that line decides, so of several that come at a time, in threads or in processes, no two take the same room. What
does not arrive takes its line back.

The file is not waited for: where a loss of power takes some of it, or we are killed between a line and its message, the
mailbox is counted anew. So it is as well where the file is missing or makes no sense, has other limits or got too long,
or says that there is no room and is not fresh. A new file takes the place of the old one by rename(2). What other
processes were about to file in that moment may then be missing in it until the next time.
"""

from __future__ import annotations

import contextlib
import enum
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from weakref import WeakValueDictionary

import attrs

from lmtp_twisted.backends.maildir.counting import Place, count
from lmtp_twisted.backends.maildir.directories import Mailboxes, closing_directory
from lmtp_twisted.backends.maildir.job import Names
from lmtp_twisted.backends.maildir.maildirsize import Limits, Record, Usage
from lmtp_twisted.backends.maildir.refusals import mailbox_full
from lmtp_twisted.backends.maildir.sizefile import SizeFile, booted
from lmtp_twisted.errors import DeliveryError, PermanentFailure

#: Mailboxes of which we remember how much they hold.
MOST_KNOWN = 2048
#: Seconds for which we take it that a mailbox holds about as much as it did.
FRESH = 30.0
#: Seconds after which a file that says that there is no room is not believed.
STALE = 15 * 60.0
#: Seconds between two times that a mailbox is counted because there is no room.
PAUSE = 60.0


class OverQuota(enum.Enum):
    """What becomes of mail for a mailbox that is full."""

    #: The client keeps it and tries again.
    DEFER = "defer"
    #: It goes back to its sender.
    BOUNCE = "bounce"


@attrs.define(eq=False)
class _Account:
    """
    One mailbox.

    :ivar lock: held while its file is read, changed or replaced.
    :ivar pending: messages that have a line and may not be in their place.
    :ivar record: what its file said when we last looked.
    :ivar seen: when that was, in seconds of the clock.
    :ivar counted: when it was last counted because there was no room.
    """

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    pending: dict[Place, int] = attrs.field(factory=dict)
    record: Record | None = None
    seen: float = float("-inf")
    counted: float = float("-inf")


@attrs.define(eq=False)
class Reservation:
    """
    Room for a message.

    :ivar mailbox: where.
    :ivar place: of the message in it.
    :ivar limits: of the mailbox.
    """

    _account: _Account
    mailbox: Names
    place: Place
    limits: Limits


class Quota:
    """
    Used by several threads at a time.

    :param mailboxes: the mailboxes.
    :param overquota: what becomes of mail that has no room.
    :param clock: gives the time of day in seconds.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        overquota: OverQuota = OverQuota.DEFER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mailboxes = mailboxes
        self._bounce = overquota is OverQuota.BOUNCE
        self._clock = clock
        # Whoever uses an account holds it, so that there are never two of one mailbox. The latest are kept.
        self._accounts: WeakValueDictionary[Names, _Account] = WeakValueDictionary()
        self._latest: OrderedDict[Names, _Account] = OrderedDict()
        self._lock = threading.Lock()

    def surely_has_room_for(self, mailbox: Names, octets: int, limits: Limits) -> bool:
        """
        Whether the disk need not be asked. Does not block.

        :param mailbox: its names.
        :param octets: of a message.
        :param limits: of the mailbox.
        """
        account = self._latest.get(mailbox)
        record = None if account is None else account.record
        if account is None or record is None or not 0 <= self._clock() - account.seen < FRESH:
            return False
        return limits.hold(record.usage + Usage(octets, 1))

    def check(self, mailbox: Names, octets: int, limits: Limits) -> None:
        """
        :param mailbox: its names.
        :param octets: of a message, as far as its size is known.
        :param limits: of the mailbox.
        :raises lmtp_twisted.errors.DeliveryError: where there is no room for it.
        :raises OSError: where that cannot be found out.
        """
        wanted = self._wanted(octets, limits)
        try:
            directory = self._mailboxes.enter(mailbox)
        except (FileNotFoundError, PermanentFailure):
            # It is made when it is needed, and is empty then.
            return
        account = self._account(mailbox)
        # The same of what it lacks.
        with closing_directory(directory), account.lock, contextlib.suppress(FileNotFoundError):
            self._open(account, directory, wanted, limits).close()

    def reserve(self, names: Names, file: str, octets: int, limits: Limits) -> Reservation:
        """
        Take the room for a message that is about to be filed. It must be settled.

        :param names: of its mailbox or folder.
        :param file: its name there.
        :param octets: its size.
        :param limits: of the mailbox.
        :raises lmtp_twisted.errors.DeliveryError: where there is no room.
        :raises OSError: where that cannot be found out.
        """
        mailbox = self._mailboxes.inbox_of(names)
        wanted = self._wanted(octets, limits)
        account = self._account(mailbox)
        place = "".join(names[len(mailbox) :]), file
        with closing_directory(self._mailboxes.enter(mailbox)) as directory, account.lock:
            self._add(account, directory, wanted, limits)
            account.pending[place] = octets
        return Reservation(account, mailbox, place, limits)

    def settle(self, reservation: Reservation, *, is_filed: bool) -> None:
        """
        :param reservation: of a message that is in its place, or will never be.
        :param is_filed: which of the two.
        """
        account = reservation._account
        with account.lock:
            octets = account.pending.pop(reservation.place)
            if not is_filed:
                # Where that fails, it counts until the mailbox is counted anew.
                with contextlib.suppress(OSError, DeliveryError):
                    self._give_back(reservation, octets)

    def _wanted(self, octets: int, limits: Limits) -> Usage:
        wanted = Usage(octets, 1)
        if not limits.hold(wanted):
            raise mailbox_full(bounce=self._bounce)
        return wanted

    def _account(self, mailbox: Names) -> _Account:
        with self._lock:
            account = self._accounts.get(mailbox)
            if account is None:
                account = self._accounts[mailbox] = _Account()
            self._latest[mailbox] = account
            self._latest.move_to_end(mailbox)
            if len(self._latest) > MOST_KNOWN:
                self._latest.popitem(last=False)
        return account

    def _add(self, account: _Account, directory: int, wanted: Usage, limits: Limits) -> None:
        while True:
            with closing(self._open(account, directory, wanted, limits)) as file:
                file.append(wanted)
                if not file.is_in_place():
                    # Somebody has counted anew, and did not see our line.
                    continue
                # Others may have been faster: their lines stand before ours.
                if file.record is not None and not limits.hold(file.record.usage):
                    file.append(-wanted)
                    raise mailbox_full(bounce=self._bounce)
                account.record = file.record
                return

    def _give_back(self, reservation: Reservation, octets: int) -> None:
        with closing_directory(self._mailboxes.enter(reservation.mailbox)) as directory:
            file = SizeFile.open(directory, reservation.limits, 0.0)
            if file is not None:
                with closing(file):
                    file.append(-Usage(octets, 1))

    def _open(self, account: _Account, directory: int, wanted: Usage, limits: Limits) -> SizeFile:
        """Its file, with room in it."""
        now = self._clock()
        file = SizeFile.open(directory, limits, booted(now), account.record)
        if file is not None and not self._is_to_be_believed(account, file, wanted, now, limits):
            file.close()
            file = None
        if file is None:
            file = SizeFile.replace(directory, limits, count(directory, account.pending))
        account.record = file.record
        account.seen = now
        if file.record is not None and not limits.hold(file.record.usage + wanted):
            file.close()
            raise mailbox_full(bounce=self._bounce)
        return file

    def _is_to_be_believed(self, account: _Account, file: SizeFile, wanted: Usage, now: float, limits: Limits) -> bool:
        if file.record is None:
            return False
        if limits.hold(file.record.usage + wanted) or 0 <= now - account.counted < PAUSE:
            return True
        if file.record.lines == 1 and now - file.changed <= STALE:
            return True
        account.counted = now
        return False
