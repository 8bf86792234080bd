"""
One message after the other: where a session stands in the order of commands, the content of DATA and BDAT, its
delivery, and back. The commands around it are :mod:`lmtp_twisted.protocol`'s.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from lmtp_twisted.awaiting import abort
from lmtp_twisted.connection import Connection
from lmtp_twisted.errors import CommandError
from lmtp_twisted.flow import Hold
from lmtp_twisted.limits import Limit
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.offer import Offer
from lmtp_twisted.reception import Reception
from lmtp_twisted.sequence import State
from lmtp_twisted.spool import Content
from lmtp_twisted.streaming import Stream
from lmtp_twisted.transaction import Transaction
from lmtp_twisted.verdict import wants_to_stream
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.commands import parse_bdat
from lmtp_twisted.wire.content import ChunkDecoder, DataDecoder
from lmtp_twisted.wire.parameters import Body
from lmtp_twisted.wire.replies import Reply

if TYPE_CHECKING:
    from lmtp_twisted.factory import LMTPFactory

_LIMITS = {replies.TOO_LARGE: Limit.MESSAGE_SIZE, replies.MAIL_LOOP: Limit.RECEIVED_LINES}

#: Recipients of a message that costs little.
FEW_RECIPIENTS = 20
#: Seconds that a session which got its last replies while the server shuts down may wait with its next command.
_GRACE = 5.0


class Activity(enum.Enum):
    """What a session does."""

    #: Waits for the client to begin a message.
    WAITING = "waiting"
    #: Takes recipients.
    ENVELOPE = "envelope"
    #: Takes the content.
    CONTENT = "content"
    #: Delivers.
    DELIVERY = "delivery"
    #: Is about to end.
    CLOSING = "closing"


class Receiver(Connection):
    """
    :param factory: what it shares with the others.
    """

    #: What this session is offered, since its LHLO.
    offer: Offer

    _chunk: tuple[Reply | None, bool] | None = None

    def __init__(self, factory: LMTPFactory) -> None:
        super().__init__(factory)
        self._transaction: Transaction | None = None
        self._transactions = 0
        self._reception: Reception | None = None
        self._decoder: DataDecoder | ChunkDecoder | None = None
        self._bad_commands = 0
        # What gives a delivery for each message: who authenticates may have another.
        self._backend = factory.backend
        self._go_by(factory.locked_handlers if factory.settings.auth_required else factory.handlers)

    @property
    def asks_much(self) -> bool:
        """See :attr:`HeldLineReceiver.asks_much`. What is done for each recipient is done at once for all."""
        transaction = self._transaction
        return super().asks_much or (transaction is not None and len(transaction.accepted) > FEW_RECIPIENTS)

    def _go_by(self, tables: Sequence[Mapping[bytes, Any]], state: State = State.START) -> None:
        """From now on the handlers of these tables are called."""
        self._tables = tables
        self._enter(state)

    def _enter(self, state: State) -> None:
        self._state = state
        self._handlers = self._tables[state]

    @property
    def transactions(self) -> int:
        """How many there were, the one of now included: MAIL commands that came to a delivery."""
        return self._transactions

    @property
    def activity(self) -> Activity:
        """What the session does now."""
        if self._is_closed or self._last_word is not None:
            return Activity.CLOSING
        if self._is_past_the_dot:
            return Activity.DELIVERY
        if self._decoder is not None or self._reception is not None:
            return Activity.CONTENT
        return Activity.WAITING if self._transaction is None else Activity.ENVELOPE

    def shut_down(self, last_word: Reply = replies.SHUTTING_DOWN) -> None:
        """See :meth:`Connection.shut_down`."""
        # Every line but QUIT is an unusual one now, and that is where it is answered.
        self._go_by(self.factory.farewell_handlers, self._state)
        super().shut_down(last_word)

    def _abandon(self) -> None:
        transaction = self._transaction
        if transaction is not None:
            if self._is_past_the_dot and self._reception is None:
                transaction.cancel()
            else:
                self._abort("connection lost")

    def finish_now(self) -> None:
        """See :meth:`Connection.finish_now`."""
        if self._is_past_the_dot and self._transaction is not None:
            if self._reception is not None:
                self._reception.fail(replies.CANCELLED)
                self._deliver()
            else:
                self._transaction.give_up()
        self.close()

    def _bad(self, reply: Reply) -> None:
        """Answer an unrecognised or malformed command; too many in a row end the session."""
        self.send(reply.encoded)
        self._bad_commands += 1
        if self._bad_commands >= self.factory.settings.max_bad_commands:
            self._end_for(Limit.BAD_COMMANDS)

    def _good(self, reply: Reply) -> None:
        self._bad_commands = 0
        self.send(reply.encoded)

    def do_DATA(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.4."""
        transaction = self._transaction
        assert transaction is not None
        if argument:
            self._bad(replies.NO_ARGUMENT)
        elif transaction.sender.parameters.body is Body.BINARY_MIME:
            self.send(replies.BINARY_NEEDS_CHUNKS.encoded)
        else:
            self._decoder = DataDecoder()
            self._good(replies.START_CONTENT)
            self.setRawMode()
            if getattr(transaction.delivery, "streams", None) is None:
                self._reception = Reception(self.factory.settings, Content(self.factory.spool), False)
            else:
                self._begin_content(transaction)

    def do_BDAT(self, argument: bytes) -> None:
        """RFC 3030 §2. The octets of the chunk are read whatever the answer will be."""
        try:
            size, last = parse_bdat(argument)
        except CommandError as error:
            # What follows are octets of a chunk of unknown size: none of them must run as a command.
            self._say_and_close(Reply.from_error(error))
            return
        settings, transaction = self.factory.settings, self._transaction
        factory = self.factory
        is_locked = self._tables is factory.locked_handlers
        refusal = (factory.locked_chunk_refusals if is_locked else factory.chunk_refusals)[self._state]
        if settings.size_limit and size > settings.size_limit * (1 + settings.drain_factor):
            self._end_for(Limit.MESSAGE_SIZE)
            return
        if refusal is None and transaction is not None and not transaction.accepted:
            # The first chunk was refused for want of recipients, and so are the others.
            refusal = replies.RCPT_FIRST
        if refusal is None:
            assert transaction is not None
            if self._reception is None:
                self._enter(State.CHUNKS)
                self._begin_content(transaction, transaction.sender.parameters.body is Body.BINARY_MIME, size)
            assert self._reception is not None
            if not self._reception.has_room_for(size):
                self._reception.fail(replies.TOO_LARGE)
        self._chunk = refusal, last
        self._decoder = ChunkDecoder(size)
        if size:
            self.setRawMode()
        else:
            self._content_ended()

    def _begin_content(self, transaction: Transaction, is_binary: bool = False, size: int = 0) -> None:
        """
        The content begins to come: it is stored, or the delivery reads it.

        :param transaction: the transaction.
        :param is_binary: see :class:`Reception`.
        :param size: so many octets are known to follow.
        """
        factory, settings = self.factory, self.factory.settings
        is_too_large = settings.size_limit and size > settings.size_limit
        if is_too_large or not wants_to_stream(transaction.delivery, transaction.envelope.recipients):
            self._reception = Reception(settings, Content(factory.spool), is_binary)
            return
        stream = Stream(factory.reactor, settings.delivery_timeout)
        self._reception = reception = Reception(settings, stream, is_binary)
        stream.too_slow = lambda: reception.fail(replies.TIMED_OUT)
        envelope = transaction.prepare(stream)
        message = ReceivedMessage(
            transaction.id,
            self.session,
            envelope,
            stream.part(envelope.recipients),
            settings.hostname,
            self.clock.seconds(),
        )
        transaction.stream(message, stream)

    def rawDataReceived(self, data: bytes) -> None:
        """Octets of content, and perhaps of what follows it."""
        decoder, reception = self._decoder, self._reception
        assert decoder is not None
        data = decoder.feed(data)
        room = reception.take(data) if data and reception is not None else None
        if self._chunk is None and reception is not None and reception.failure is not None and reception.is_drained:
            self._content_complete()
            self.close(linger=True)
        elif decoder.rest is not None:
            self.back_to_lines(decoder.rest)
            is_last = self._chunk is None or self._chunk[1]
            if room is None or (is_last and self._is_streaming()):
                self._content_ended()
            else:
                self._wait_for_room(room, self._content_ended)
        elif room is not None:
            self._wait_for_room(room, lambda: None)

    def _is_streaming(self) -> bool:
        return self._reception is not None and isinstance(self._reception.content, Stream)

    def _wait_for_room(self, room: Deferred[None], then: Callable[[], None]) -> None:
        self.hold(Hold.CONTENT)

        def there_is_room(_: object) -> None:
            if not self._is_closed:
                self.release(Hold.CONTENT, then)

        room.addCallback(there_is_room)

    def _content_ended(self) -> None:
        """The end mark, or the end of a chunk."""
        self._decoder = None
        if self._chunk is None:
            self._content_complete()
            return
        (refusal, last), self._chunk = self._chunk, None
        if refusal is None:
            assert self._reception is not None
            if last:
                self._content_complete()
            elif self._reception.failure is None:
                self._good(replies.CHUNK_OK)
            else:
                self.send(self._reception.failure.encoded)
        elif last and refusal is replies.RCPT_FIRST:
            # One reply for each accepted recipient, and there is none (RFC 2033 §4.3).
            self._abort("no recipients")
            self._enter(State.READY)
        else:
            if refusal is replies.RCPT_FIRST:
                # What came is lost: no recipient may join now and get the rest as the whole (RFC 3030 §2).
                self._enter(State.CHUNKS)
            self.send(refusal.encoded)

    def _content_complete(self) -> None:
        assert self._reception is not None
        self._is_past_the_dot = True
        pending = self._reception.finish()
        if pending is None:
            self._deliver()
        else:
            self._wait_for_room(pending, self._deliver)

    def _deliver(self) -> None:
        transaction, reception = self._transaction, self._reception
        assert transaction is not None
        assert reception is not None
        self._reception = None
        content = reception.content
        if not transaction.is_streamed:
            transaction.prepare(content)
        if reception.failure is not None:
            limit = _LIMITS.get(reception.failure)
            if limit is not None:
                self.factory.limit_reached(self.session, limit)
            transaction.refuse(reception.failure, reception.failure.text)
            self._wait_for_end_of(transaction)
            return
        settings = self.factory.settings
        if isinstance(content, Stream):
            transaction.finish(settings.delivery_timeout)
        else:
            message = ReceivedMessage(
                transaction.id,
                self.session,
                transaction.envelope,
                content,
                settings.hostname,
                self.clock.seconds(),
            )
            transaction.deliver(message, settings.delivery_timeout)
        if self._transaction is transaction:
            self.hold(Hold.ANSWER)

    def _transaction_done(self, transaction: Transaction) -> None:
        """All final replies are written, or the connection is lost."""
        self._transaction = None
        self._is_past_the_dot = False
        assert transaction.content is not None
        transaction.content.release()
        self.factory.transaction_ended(self.session, transaction, self._backend)
        self.session.xforward = {}
        self._enter(State.READY)
        if transaction.disconnect is not None:
            self._cut_off(transaction.disconnect)
            return
        if self._last_word is not None:
            self._wait_for_client(_GRACE)
        if self._holds:
            self.release(Hold.ANSWER)

    def _wait_for_end_of(self, transaction: Transaction) -> None:
        """Where a content was lost its delivery may be at work still: a session has one at a time."""
        if transaction.ended is not None and not self._is_closed:
            self.hold(Hold.ANSWER)
            transaction.ended.addCallback(lambda _: self.release(Hold.ANSWER))

    def _say_and_close(self, reply: Reply) -> None:
        super()._say_and_close(reply)
        if self._reception is not None and self._is_streaming():
            self._reception.fail(Reply(451, "4.3.0", reply.text))

    def _abort(self, reason: str) -> None:
        """Give up the transaction, if there is one, before its content was complete."""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.content.discard(Reply(451, "4.3.0", reason))
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            if transaction.is_streamed:
                self._wait_for_end_of(transaction)
            else:
                abort(transaction.delivery, reason)
            if self._state >= State.SENDER:
                self.factory.transaction_ended(self.session, transaction, self._backend)
        # What XFORWARD says is said of one transaction.
        self.session.xforward = {}
        self._is_past_the_dot = False
