"""
One message's way: the recipients that were accepted, the deliveries under way, the ordered replies.

**The one rule** (RFC 2033 §4.2). After the content the client gets exactly one reply for every RCPT that was answered
250, in RCPT order, whatever happens. A transaction holds one slot for each of them. A slot is filled once, by whatever
comes first: the delivery's outcome, its failure, a time-out, the end of the connection. A slot that is filled in its
turn is written at once with all filled ones behind it; one out of turn waits. No other code writes a final reply, so
their number cannot be wrong.

A recipient that was given twice has two slots and one delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.awaiting import deferred_of
from lmtp_twisted.envelope import Envelope, Outcome, Recipient, Sender
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.spool import Content
from lmtp_twisted.verdict import OUTCOME
from lmtp_twisted.wire.replies import CANCELLED, DELIVERED, INTERNAL_ERROR, TIMED_OUT, Reply

_log = Logger(namespace="lmtp_twisted")


class Transaction:
    """
    :param id: begins the id of each of its replies.
    :param sender: the accepted sender.
    :param delivery: the application's :class:`~lmtp_twisted.interfaces.ILMTPDelivery`.
    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param write: takes the octets of final replies.
    :param done: called with the transaction once every final reply is written or the connection is lost.

    :ivar recipients: the distinct accepted recipients.
    :ivar content: what has come of the content, once it begins to come.
    :ivar failure: the reply that all recipients will get, where the content has been refused already.
    """

    __slots__ = (
        "_accepted",
        "_by_address",
        "_clock",
        "_done",
        "_missing",
        "_replies",
        "_seconds",
        "_size",
        "_started",
        "_timer",
        "_turn",
        "_verbatim",
        "_waiting",
        "_write",
        "content",
        "delivery",
        "failure",
        "id",
        "recipients",
        "sender",
    )

    def __init__(
        self,
        id: str,
        sender: Sender,
        delivery: Any,
        clock: Any,
        write: Callable[[bytes], None],
        done: Callable[[Transaction], None],
    ) -> None:
        self.id = id
        self.sender = sender
        self.delivery = delivery
        self.recipients: list[Recipient] = []
        self.content: Content | None = None
        self.failure: Reply | None = None
        # For each slot, the place of its recipient among the distinct ones.
        self._accepted: list[int] = []
        self._by_address: dict[object, int] = {}
        self._clock = clock
        self._write: Callable[[bytes], None] | None = write
        self._done = done
        self._turn = 0
        self._timer: Any = None
        self._waiting: list[Deferred[Any]] = []
        self._verbatim: set[int] = set()
        self._started = 0.0
        self._size = 0

    def accept(self, recipient: Recipient) -> None:
        """One more RCPT was answered 250: one more final reply is owed."""
        index = self._by_address.setdefault(recipient.address.key, len(self.recipients))
        if index == len(self.recipients):
            self.recipients.append(recipient)
        self._accepted.append(index)

    @property
    def accepted(self) -> int:
        """How many RCPT commands were answered 250: the number of final replies."""
        return len(self._accepted)

    @property
    def envelope(self) -> Envelope:
        """The envelope as it is now."""
        return Envelope(self.sender, tuple(self.recipients))

    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each RCPT, once all is over; empty where the content was never complete."""
        if not self._started:
            return ()
        return tuple(
            Outcome(
                self.recipients[index],
                self._replies[index] or CANCELLED,
                f"{self.id}.{slot}",
                self._size,
                self._seconds[index],
            )
            for slot, index in enumerate(self._accepted, 1)
        )

    def _start(self) -> None:
        count = len(self.recipients)
        self._replies: list[Reply | None] = [None] * count
        self._seconds = [0.0] * count
        self._missing = count
        self._started = self._clock.seconds()
        self._size = self.content.size if self.content is not None else 0

    def refuse(self, reply: Reply, reason: str) -> None:
        """
        The content was refused: every recipient gets the same reply, and the delivery hears that it was in vain.

        :param reply: of class 4 or 5.
        :param reason: for the delivery.
        """
        self._start()
        self.abort(reason)
        self._fill_all(reply)

    def abort(self, reason: str) -> None:
        """Tell the delivery that ``deliver`` will not be called."""
        try:
            waiting = deferred_of(self.delivery.aborted(reason))
        except Exception:
            _log.failure("aborted failed")
            return
        if waiting is not None:
            waiting.addErrback(lambda failure: _log.failure("aborted failed", failure))

    def deliver(self, message: IReceivedMessage, timeout: float) -> None:
        """
        The content is complete: hand it to the delivery, and see to the replies.

        :param message: the message.
        :param timeout: seconds after which an outcome that is missing becomes 451 and its delivery is cancelled.
        """
        self._start()
        try:
            outcomes = self.delivery.deliver(message)
            waiting = deferred_of(outcomes)
        except Exception:
            self._settle(Failure())
            return
        if waiting is None:
            self._settle(outcomes)
        else:
            self._waiting.append(waiting)
            waiting.addBoth(self._settle)
        if self._missing:
            self._timer = self._clock.callLater(timeout, self._time_out)

    def cancel(self) -> None:
        """The connection is lost: nothing is written any more, and what is not committed is cancelled."""
        self._write = None
        self._give_up(CANCELLED)

    def _settle(self, outcomes: Any) -> None:
        """Take what ``deliver`` gave as a whole."""
        if not self._missing:
            _discard(outcomes)
        elif isinstance(outcomes, Failure):
            self._fill_all(OUTCOME.verdict(outcomes))
        elif not isinstance(outcomes, (list, tuple)) or len(outcomes) != len(self.recipients):
            _log.error(
                "deliver gave {outcomes!r} instead of a list of {count} outcomes: answered 451",
                outcomes=outcomes,
                count=len(self.recipients),
            )
            _discard(outcomes)
            self._fill_all(INTERNAL_ERROR)
        elif all(outcome is None for outcome in outcomes):
            self._fill_all(DELIVERED)
        else:
            for index, outcome in enumerate(outcomes):
                self._settle_one(outcome, index)

    def _settle_one(self, outcome: Any, index: int) -> None:
        try:
            waiting = deferred_of(outcome)
        except RuntimeError:
            outcome, waiting = Failure(), None
        if waiting is None:
            self._answer(outcome, index)
        else:
            self._waiting.append(waiting)
            waiting.addBoth(self._answer, index)

    def _answer(self, outcome: Any, index: int) -> None:
        if self._replies[index] is not None:
            _log.debug("{id}: too late for <{recipient}>", id=self.id, recipient=self.recipients[index])
            return
        # An outcome that is a list or an awaitable again is no outcome: the verdict says so.
        reply = OUTCOME.verdict(outcome)
        if isinstance(outcome, Reply):
            self._verbatim.add(index)
        self._fill(index, reply)
        self._write_turn()

    def _fill(self, index: int, reply: Reply) -> None:
        self._replies[index] = reply
        self._seconds[index] = self._clock.seconds() - self._started
        self._missing -= 1

    def _fill_all(self, reply: Reply) -> None:
        for index, filled in enumerate(self._replies):
            if filled is None:
                self._fill(index, reply)
        self._write_turn()

    def _write_turn(self) -> None:
        """Write the replies whose turn has come."""
        ready: list[bytes] = []
        slots, turn = self._accepted, self._turn
        while turn < len(slots) and (reply := self._replies[slots[turn]]) is not None:
            ready.append(self._encode(turn, slots[turn], reply))
            turn += 1
        self._turn = turn
        if ready and self._write is not None:
            self._write(b"".join(ready))
        if turn == len(slots) and ready:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._waiting.clear()
            self._done(self)

    def _encode(self, slot: int, index: int, reply: Reply) -> bytes:
        if index in self._verbatim:
            return reply.encoded
        name = f"<{self.recipients[index].printable}> {self.id}.{slot + 1}"
        if reply is DELIVERED:
            return f"250 2.0.0 {name} Delivered\r\n".encode("ascii")
        return Reply(reply.code, reply.enhanced, f"{name} {reply.text}").encoded

    def _time_out(self) -> None:
        self._timer = None
        self._give_up(TIMED_OUT)

    def _give_up(self, reply: Reply) -> None:
        # The slots are filled first and the deliveries cancelled then: whatever a canceller does, it is too late.
        waiting = list(self._waiting)
        self._fill_all(reply)
        for deferred in waiting:
            deferred.cancel()


def _discard(outcomes: Any) -> None:
    """Outcomes that nobody will wait for: stop what can be stopped."""
    for outcome in outcomes if isinstance(outcomes, (list, tuple)) else [outcomes]:
        try:
            waiting = deferred_of(outcome)
        except RuntimeError:
            continue
        if waiting is not None:
            waiting.addErrback(lambda _: None)
            waiting.cancel()
