"""
One message's way: the recipients that were accepted, the deliveries under way, the ordered replies.

**The one rule** (RFC 2033 §4.2). After the content the client gets exactly one reply for every RCPT that was answered
250, in RCPT order, whatever happens. A transaction holds one slot for each of them. A slot is filled once, by whatever
comes first: the delivery's outcome, its failure, a time-out, the end of the connection. A slot that is filled in its
turn is written at once with all filled ones behind it; one out of turn waits. No other code writes a final reply, so
their number cannot be wrong.

A recipient that was given twice has two slots and one delivery.

Where the message is streamed, the delivery is at work before the content is complete. The slots are there from the
beginning then, and what fills them waits to be written until it is known that the content is not refused; where it is,
the refusal takes the place of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.awaiting import FAILURES, abort, cancel, deferred_of, ending
from lmtp_twisted.disconnect import Disconnect
from lmtp_twisted.envelope import Envelope, Outcome, Recipient, Sender
from lmtp_twisted.interfaces import IReceivedMessage
from lmtp_twisted.spool import Content
from lmtp_twisted.streaming import Stream
from lmtp_twisted.verdict import OUTCOME, backend_for, discard, one_for_each
from lmtp_twisted.wire.headers import LOOKED_AT, message_id_of
from lmtp_twisted.wire.replies import CANCELLED, DELIVERED, TIMED_OUT, Reply

_log = Logger(namespace="lmtp_twisted")

#: Seconds that a delivery may take to end by itself, once the content that it streams is lost.
TO_CLEAR_UP = 30.0


class Transaction:
    """
    :param id: begins the id of each of its replies.
    :param sender: the accepted sender.
    :param delivery: the application's :class:`~lmtp_twisted.interfaces.ILMTPDelivery`.
    :param clock: an :class:`~twisted.internet.interfaces.IReactorTime`.
    :param write: takes the octets of final replies.
    :param done: called with the transaction once every final reply is written or the connection is lost.

    :ivar accepted: the recipients of the RCPT commands that were answered 250, in order: one final reply is owed for
        each of them.
    :ivar room: how many recipients there may be without another look at what all messages have.
    :ivar reserved: how many of them are counted there.
    :ivar content: what has come of the content, once a delivery is asked or it is complete.
    :ivar is_streamed: whether the delivery reads the content while it comes.
    :ivar disconnect: that of an outcome whose turn has come: the connection has to end.
    :ivar ended: where a content that was streamed is lost: fires when no delivery of it is at work any more.
    """

    # One is made for each message: what most never need is on the class until it is set.
    content: Content | Stream | None = None
    is_streamed = False
    room = 0
    reserved = 0
    disconnect: Disconnect | None = None
    _is_refused = False
    ended: Deferred[None] | None = None
    _envelope: Envelope | None = None
    _turn = 0
    _missing = 0
    _started: float | None = None
    _timer: Any = None
    _waiting: list[Deferred[Any]] | None = None

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
        self.accepted: list[Recipient] = []
        self._clock = clock
        self._write: Callable[[bytes], None] | None = write
        self._done: Callable[[Transaction], None] | None = done

    def _distinct(self) -> tuple[list[Recipient], Sequence[int]]:
        """The distinct recipients, and for each accepted one its place among them."""
        accepted = self.accepted
        if len({recipient.address.key for recipient in accepted}) == len(accepted):
            return accepted, range(len(accepted))
        places: dict[object, int] = {}
        slots = [places.setdefault(recipient.address.key, len(places)) for recipient in accepted]
        distinct: list[Recipient] = []
        for recipient, place in zip(accepted, slots, strict=True):
            if place == len(distinct):
                distinct.append(recipient)
        return distinct, slots

    @property
    def envelope(self) -> Envelope:
        """The envelope as it is now: a recipient that was given twice is in it once."""
        return self._envelope or Envelope(self.sender, tuple(self._distinct()[0]))

    def prepare(self, content: Content | Stream) -> Envelope:
        """
        The content is complete: from now on the replies are owed, and ``refuse`` or ``deliver`` follows. Or it begins
        to come, and ``stream`` follows.

        :returns: the envelope for the message.
        """
        self.content = content
        distinct, self._slots = self._distinct()
        self._recipients = recipients = tuple(distinct)
        self._missing = count = len(recipients)
        self._replies: list[Reply | None] = [None] * count
        self._seconds = [0.0] * count
        self._started = self._clock.seconds()
        self._envelope = envelope = Envelope(self.sender, recipients)
        return envelope

    def outcomes(self, backend: Any) -> tuple[Outcome, ...]:
        """
        What became of each RCPT, once all is over; empty where the content was never complete.

        :param backend: who gave the delivery.
        """
        if self._started is None or self.content is None:
            return ()
        size, recipients, replies, seconds = self.content.size, self._recipients, self._replies, self._seconds
        message_id = message_id_of(self.content.beginning(LOOKED_AT))
        outcomes: list[Outcome] = []
        if self._is_refused:
            backend = None
        is_shared = self._is_refused or getattr(self.delivery, "backendFor", None) is None
        for place in self._slots:
            recipient = recipients[place]
            reply_id = f"{self.id}.{len(outcomes) + 1}"
            reply = replies[place] or CANCELLED
            took = backend if is_shared else backend_for(self.delivery, recipient, backend)
            outcomes.append(Outcome(recipient, reply, reply_id, size, seconds[place], took, message_id))
        return tuple(outcomes)

    def refuse(self, reply: Reply, reason: str) -> None:
        """
        The content was refused: every recipient gets the same reply, and the delivery hears that it was in vain, if it
        was not told by the stream.

        :param reply: of class 4 or 5.
        :param reason: for the delivery.
        """
        self._is_refused = True
        if self.is_streamed:
            self._started = self._clock.seconds()
            self._missing = len(self._replies)
        else:
            abort(self.delivery, reason)
        self._fill_all(reply)
        self._end()

    def stream(self, message: IReceivedMessage, stream: Stream) -> None:
        """
        Hand the message to the delivery before its content has come. ``refuse`` or ``finish`` follows, or neither.

        :param message: the message.
        :param stream: its content.
        """
        self.is_streamed = True
        self._started = None
        stream.lost = self._lose
        self.deliver(message)

    def finish(self, timeout: float) -> None:
        """
        The content that was streamed is complete: from now on the replies are owed.

        :param timeout: as that of ``deliver``.
        """
        assert isinstance(self.content, Stream)
        self._started = self._clock.seconds()
        self._seconds = [0.0] * len(self._replies)
        self.content.complete()
        if self._missing:
            self._timer = self._clock.callLater(timeout, self._time_out)
        self._write_turn()
        self._end()

    def deliver(self, message: IReceivedMessage, timeout: float | None = None) -> None:
        """
        Hand the message to the delivery, and see to the replies.

        :param message: the message.
        :param timeout: seconds after which an outcome that is missing becomes 451 and its delivery is cancelled;
            ``None`` for a message whose content is still to come.
        """
        try:
            outcomes = self.delivery.deliver(message)
            waiting = None if type(outcomes) is list else deferred_of(outcomes)
        except FAILURES:
            self._settle(Failure())
            return
        if waiting is None:
            self._settle(outcomes)
        else:
            self._wait(waiting)
            waiting.addBoth(self._settle)
        if self._missing and timeout is not None:
            self._timer = self._clock.callLater(timeout, self._time_out)

    def cancel(self) -> None:
        """The connection is lost: nothing is written any more, and what is not committed is cancelled."""
        self._write = None
        self.give_up()

    def _settle(self, outcomes: Any) -> None:
        """Take what ``deliver`` gave as a whole."""
        if not self._missing:
            discard(outcomes)
            return
        if type(outcomes) is not list or len(outcomes) != len(self._recipients):
            outcomes = one_for_each(outcomes, len(self._recipients))
        for outcome in outcomes:
            if outcome is not None:
                break
        else:
            self._fill_all(DELIVERED)
            self._end()
            return
        for index, outcome in enumerate(outcomes):
            if outcome is None:
                self._fill(index, DELIVERED)
            else:
                self._settle_one(outcome, index)
        self._write_turn()
        self._end()

    def _settle_one(self, outcome: Any, index: int) -> None:
        if self._replies[index] is not None:
            # One before it has ended the connection.
            discard(outcome)
            return
        try:
            waiting = deferred_of(outcome)
        except RuntimeError:
            outcome, waiting = Failure(), None
        if waiting is None:
            self._answer(outcome, index)
        else:
            self._wait(waiting)
            waiting.addBoth(self._answer, index)

    def _wait(self, waiting: Deferred[Any]) -> None:
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(waiting)

    def _answer(self, outcome: Any, index: int) -> None:
        if self._replies[index] is not None:
            _log.debug("{id}: too late for <{recipient}>", id=self.id, recipient=self._recipients[index])
            return
        # An outcome that is a list or an awaitable again is no outcome: the verdict says so.
        reply = OUTCOME.verdict(outcome)
        self._fill(index, reply)
        self._write_turn()
        self._end()

    def _fill(self, index: int, reply: Reply) -> None:
        if self._replies[index] is None:
            self._replies[index] = reply
            self._seconds[index] = self._clock.seconds() - (self._started or 0.0)
            self._missing -= 1
            if self._started is None:
                assert isinstance(self.content, Stream)
                self.content.settle(self._recipients[index])

    def _fill_all(self, reply: Reply) -> None:
        """Fill all that are not filled yet, and write them."""
        seconds = self._clock.seconds() - (self._started or 0.0)
        if self._missing == len(self._replies):
            self._replies = [reply] * self._missing
            self._seconds = [seconds] * self._missing
        else:
            for index, filled in enumerate(self._replies):
                if filled is None:
                    self._replies[index] = reply
                    self._seconds[index] = seconds
        self._missing = 0
        self._write_turn()

    def _write_turn(self) -> None:
        """Write the replies whose turn has come."""
        if self._started is None:
            # The content is still coming, and for nobody where all outcomes are known.
            if not self._missing:
                assert self.content is not None
                self.content.release()
            return
        ready: list[str] = []
        cut_off: Disconnect | None = None
        slots, replies, recipients, id = self._slots, self._replies, self._recipients, self.id
        for turn in range(self._turn, len(slots)):
            place = slots[turn]
            reply = replies[place]
            if reply is None:
                break
            name = recipients[place].printable
            if reply is DELIVERED:
                ready.append(f"250 2.0.0 <{name}> {id}.{turn + 1} Delivered\r\n")
            else:
                text = f"<{name}> {id}.{turn + 1} {reply.text}"
                line = str(Reply(reply.code, reply.enhanced, text).encoded, "ascii")
                if isinstance(reply, Disconnect) and self._write is not None:
                    ready.append(line[: reply.octets])
                    cut_off = reply
                    if reply.octets is not None:
                        replies[place] = Disconnect()
                    break
                ready.append(line)
        self._turn += len(ready)
        if ready and self._write is not None:
            self._write("".join(ready).encode("ascii"))
            if cut_off is not None:
                self._write, self.disconnect = None, cut_off
                self._give_up(CANCELLED)

    def _end(self) -> None:
        """Tell the session, where all replies are written."""
        if self._turn == len(self._slots) and self._done is not None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._waiting = None
            done, self._done = self._done, None
            done(self)

    def _lose(self) -> None:
        """
        The content that was streamed is refused or lost, and who waits for it knows. Who is at work on something else,
        or clears up, has a while to end.
        """
        self._fill_all(CANCELLED)
        at_work = [waiting for waiting in self._waiting or () if not waiting.called]
        if at_work:
            self.ended = ending(at_work, self._clock, TO_CLEAR_UP)

    def give_up(self) -> None:
        """Nobody can wait any longer: cancel what is not delivered, and answer it 451."""
        self._give_up(CANCELLED)

    def _time_out(self) -> None:
        self._timer = None
        self._give_up(TIMED_OUT)

    def _give_up(self, reply: Reply) -> None:
        # The slots are filled first and the deliveries cancelled then: whatever a canceller does, it is too late.
        waiting = self._waiting or []
        self._fill_all(reply)
        for deferred in waiting:
            cancel(deferred)
        # Only now may the session go on, so that no two deliveries of it overlap.
        self._end()
