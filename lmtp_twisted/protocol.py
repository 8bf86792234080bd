"""
The protocol: lines and octets in, replies out.

:class:`LMTPProtocol` parses each command, looks up its handler in the table of its state
(:mod:`lmtp_twisted.sequence`) and asks the application. It decides nothing about mail itself, and writes no final
reply: that is :class:`~lmtp_twisted.transaction.Transaction`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from lmtp_twisted.awaiting import FAILURES, abort, deferred_of
from lmtp_twisted.connection import Connection
from lmtp_twisted.envelope import Recipient, Sender, parse_recipient, parse_sender
from lmtp_twisted.errors import CommandError, DeliveryError
from lmtp_twisted.flow import Hold
from lmtp_twisted.message import ReceivedMessage
from lmtp_twisted.reception import Reception
from lmtp_twisted.sequence import State
from lmtp_twisted.transaction import Transaction
from lmtp_twisted.verdict import DELIVERY, RECIPIENT, SENDER
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.commands import MAX_LINE, line_limit, parse_bdat, parse_lhlo, read_line, split_command
from lmtp_twisted.wire.content import ChunkDecoder, DataDecoder
from lmtp_twisted.wire.parameters import Body
from lmtp_twisted.wire.replies import Reply

if TYPE_CHECKING:
    from lmtp_twisted.factory import LMTPFactory

_RECIPIENT_OK = replies.RECIPIENT_OK.encoded
_HTTP = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH"})

#: Seconds that a session which got its last replies while the server shuts down may wait with its next command.
_GRACE = 5.0


class LMTPProtocol(Connection):
    """
    One session (RFC 2033). Made by an :class:`~lmtp_twisted.factory.LMTPFactory`.

    :param factory: the factory.
    """

    MAX_LENGTH = MAX_LINE - len("\n")

    _chunk: tuple[Reply | None, bool] | None = None

    def __init__(self, factory: LMTPFactory) -> None:
        super().__init__(factory)
        self._transaction: Transaction | None = None
        self._transactions = 0
        self._reception: Reception | None = None
        self._decoder: DataDecoder | ChunkDecoder | None = None
        self._bad_commands = 0
        self._enter(State.START)

    def _enter(self, state: State) -> None:
        self._state = state
        # While we shut down every line but QUIT is an unusual one, and that is where it is answered.
        self._handlers = _FAREWELL if self._is_shutting_down else self.factory.handlers[state]

    def shut_down(self) -> None:
        """The server is going down: whatever comes next is answered 421 (RFC 5321 §3.8)."""
        self._is_shutting_down = True
        self._enter(self._state)
        super().shut_down()

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

    def lineReceived(self, line: bytes) -> None:
        """One command."""
        verb, argument = read_line(line)
        handler = self._handlers.get(verb)
        if handler is not None:
            handler(self, argument)
        elif line[-1:] == b"\r":
            self._unusual_line(line[:-1])
        elif self._settings.lenient_newlines:
            self._unusual_line(line)
        else:
            self._say_and_close(replies.BARE_NEWLINE)

    def _unusual_line(self, line: bytes) -> None:
        """A line that is long, ends in a bare LF, or whose verb is not one of ours."""
        verb, argument = split_command(line)
        handler = self._handlers.get(verb)
        if len(line) + 2 > line_limit(verb):
            self._bad(replies.LINE_TOO_LONG)
        elif self._is_shutting_down and verb != b"QUIT":
            self._say_and_close(replies.SHUTTING_DOWN)
        elif handler is not None:
            handler(self, argument)
        elif verb in _HTTP and b"HTTP/" in argument.upper():
            self._say_and_close(replies.NOT_HTTP)
        else:
            self._bad(replies.UNKNOWN_COMMAND)

    def lineSkipped(self) -> None:
        """A line that no verb allows was thrown away."""
        self._bad(replies.LINE_TOO_LONG)

    def _bad(self, reply: Reply) -> None:
        """Answer an unrecognised or malformed command; too many in a row end the session."""
        self.send(reply.encoded)
        self._bad_commands += 1
        if self._bad_commands >= self._settings.max_bad_commands:
            self._say_and_close(replies.TOO_MANY_ERRORS)

    def _refuse_path(self, error: CommandError, argument: bytes) -> None:
        """
        A MAIL or RCPT that the grammar does not take. Where it has a path, it is a sender or a recipient that is
        refused, and a message may have any number of these: a burst of them must not cost the good ones their replies.
        """
        reply = Reply.from_error(error)
        if b"<" in argument:
            self.send(reply.encoded)
        else:
            self._bad(reply)

    def _good(self, reply: Reply) -> None:
        self._bad_commands = 0
        self.send(reply.encoded)

    def do_LHLO(self, argument: bytes) -> None:
        """RFC 2033 §4.1."""
        try:
            self.session.lhlo_name = parse_lhlo(argument)
        except CommandError as error:
            self._bad(Reply(501, None, error.text))
            return
        self._abort("LHLO")
        self._enter(State.READY)
        self._bad_commands = 0
        self.send(self.factory.lhlo_reply(self.session))

    def do_MAIL(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.2."""
        try:
            sender = parse_sender(argument)
        except CommandError as error:
            self._refuse_path(error, argument)
            return
        if not sender.is_plain:
            refusal = self.factory.sender_refusal(sender, self.session)
            if refusal is not None:
                self.send(refusal.encoded)
                return
        session = self.session
        try:
            delivery = self.factory.backend.getDelivery(session)
            waiting = deferred_of(delivery)
        except FAILURES:
            self.send(DELIVERY.verdict(Failure()).encoded)
            return
        if waiting is None:
            self._delivery_given(delivery, sender)
        else:
            self._wait(waiting, lambda delivery: self._delivery_given(delivery, sender), _give_back)

    def _delivery_given(self, delivery: Any, sender: Sender) -> None:
        if isinstance(delivery, (Failure, DeliveryError)):
            self.send(DELIVERY.verdict(delivery).encoded)
            return
        self._transactions += 1
        transaction = Transaction(
            f"{self.session.id}.{self._transactions}",
            sender,
            delivery,
            self.clock,
            self.send,
            self._transaction_done,
        )
        # Known from here on, so that a lost connection aborts it.
        self._transaction = transaction
        try:
            answer = delivery.validateFrom(sender)
            waiting = None if answer is None else deferred_of(answer)
        except FAILURES:
            answer, waiting = Failure(), None
        if answer is None:
            self._sender_validated(SENDER.accepted)
        else:
            self._go_on(SENDER, answer, waiting, self._sender_validated)

    def _sender_validated(self, verdict: Reply) -> None:
        if verdict.is_positive:
            self._good(verdict)
            self._enter(State.SENDER)
        else:
            transaction, self._transaction = self._transaction, None
            assert transaction is not None
            abort(transaction.delivery, "sender refused")
            self.send(verdict.encoded)

    def do_RCPT(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.3."""
        transaction = self._transaction
        assert transaction is not None
        try:
            recipient = parse_recipient(argument)
        except CommandError as error:
            self._refuse_path(error, argument)
            return
        if not recipient.is_plain or len(transaction.accepted) >= self._settings.max_recipients:
            refusal = self.factory.recipient_refusal(recipient, transaction)
            if refusal is not None:
                self.send(refusal.encoded)
                return
        try:
            answer = transaction.delivery.validateTo(recipient)
            waiting = None if answer is None else deferred_of(answer)
        except FAILURES:
            answer, waiting = Failure(), None
        if answer is None:
            # What _accept and send do, without the calls: a message may have a thousand of these.
            transaction.accepted.append(recipient)
            self._bad_commands = 0
            if self._state is State.SENDER:
                self._enter(State.RECIPIENTS)
            if not self._is_closed:
                self._output.append(_RECIPIENT_OK)
        else:
            self._go_on(RECIPIENT, answer, waiting, lambda verdict: self._recipient_validated(verdict, recipient))

    def _recipient_validated(self, verdict: Reply, recipient: Recipient) -> None:
        assert self._transaction is not None
        if verdict.is_positive:
            self._accept(recipient, self._transaction, verdict.encoded)
        else:
            self.send(verdict.encoded)

    def _accept(self, recipient: Recipient, transaction: Transaction, reply: bytes) -> None:
        transaction.accepted.append(recipient)
        self._bad_commands = 0
        if self._state is State.SENDER:
            self._enter(State.RECIPIENTS)
        self.send(reply)

    def do_RSET(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.5."""
        if argument:
            self._bad(replies.NO_ARGUMENT)
            return
        self._abort("RSET")
        if self._state is not State.START:
            self._enter(State.READY)
        self._good(replies.RESET)

    def do_NOOP(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.9."""
        self._good(replies.NOOP)

    def do_VRFY(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.6, §7.3."""
        if argument:
            self._good(replies.CANNOT_VERIFY)
        else:
            self._bad(replies.ARGUMENT_NEEDED)

    def do_EXPN(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.7."""
        self.send(replies.NO_EXPANSION.encoded)

    def do_HELP(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.8."""
        self._good(replies.HELP)

    def do_QUIT(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.10."""
        if argument:
            self._bad(replies.NO_ARGUMENT)
            return
        self.send(replies.GOODBYE.encoded)
        self.close()

    def do_EHLO(self, argument: bytes) -> None:
        """RFC 2033 §4.1: an LMTP server does not take EHLO or HELO."""
        self._bad(replies.NOT_LHLO)

    do_HELO = do_EHLO

    def do_STARTTLS(self, argument: bytes) -> None:
        """RFC 3207 §4."""
        if argument:
            self._bad(replies.NO_ARGUMENT)
        elif self.is_secure:
            self.send(replies.TLS_IS_ON.encoded)
        elif self.has_input:
            # It came in the clear, from whomever: none of it must run, neither before nor after the handshake.
            self._say_and_close(replies.NOTHING_MAY_FOLLOW)
        elif not self.can_start_tls:
            self.send(replies.TLS_UNAVAILABLE.encoded)
        else:
            # What was learnt in the clear is forgotten (§4.2).
            self.session.lhlo_name = ""
            self._enter(State.START)
            self._good(replies.START_TLS)
            self.start_tls(self.factory.tls)

    def do_DATA(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.4."""
        transaction = self._transaction
        assert transaction is not None
        if argument:
            self._bad(replies.NO_ARGUMENT)
        elif transaction.sender.parameters.body is Body.BINARY_MIME:
            self.send(replies.BINARY_NEEDS_CHUNKS.encoded)
        else:
            self._reception = Reception(self._settings, self.factory.spool, False)
            self._decoder = DataDecoder()
            self._good(replies.START_CONTENT)
            self.setRawMode()

    def do_BDAT(self, argument: bytes) -> None:
        """RFC 3030 §2. The octets of the chunk are read whatever the answer will be."""
        try:
            size, last = parse_bdat(argument)
        except CommandError as error:
            # What follows are octets of a chunk of unknown size: none of them must run as a command.
            self._say_and_close(Reply.from_error(error))
            return
        settings, transaction = self._settings, self._transaction
        refusal = self.factory.chunk_refusals[self._state]
        if settings.size_limit and size > settings.size_limit * (1 + settings.drain_factor):
            self._say_and_close(replies.TOO_LARGE)
            return
        if refusal is None and transaction is not None and not transaction.accepted:
            # The first chunk was refused for want of recipients, and so are the others.
            refusal = replies.RCPT_FIRST
        if refusal is None:
            assert transaction is not None
            if self._reception is None:
                binary = transaction.sender.parameters.body is Body.BINARY_MIME
                self._reception = Reception(settings, self.factory.spool, binary)
                self._enter(State.CHUNKS)
            if not self._reception.has_room_for(size):
                self._reception.fail(replies.TOO_LARGE)
        self._chunk = refusal, last
        self._decoder = ChunkDecoder(size)
        if size:
            self.setRawMode()
        else:
            self._content_ended()

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
            if room is None:
                self._content_ended()
            else:
                self._wait_for_spool(room, self._content_ended)
        elif room is not None:
            self._wait_for_spool(room, lambda: None)

    def _wait_for_spool(self, room: Deferred[None], then: Callable[[], None]) -> None:
        self.hold(Hold.SPOOL)

        def written(_: object) -> None:
            if not self._is_closed:
                self.release(Hold.SPOOL, then)

        room.addCallback(written)

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
            self._wait_for_spool(pending, self._deliver)

    def _deliver(self) -> None:
        transaction, reception = self._transaction, self._reception
        assert transaction is not None
        assert reception is not None
        self._reception = None
        envelope = transaction.complete(reception.content)
        if reception.failure is not None:
            transaction.refuse(reception.failure, reception.failure.text)
            return
        message = ReceivedMessage(
            transaction.id,
            self.session,
            envelope,
            reception.content,
            self._settings.hostname,
            self.clock.seconds(),
        )
        transaction.deliver(message, self._settings.delivery_timeout)
        if self._transaction is transaction:
            self.hold(Hold.ANSWER)

    def _transaction_done(self, transaction: Transaction) -> None:
        """All final replies are written, or the connection is lost."""
        self._transaction = None
        self._is_past_the_dot = False
        assert transaction.content is not None
        transaction.content.release()
        self.factory.transaction_ended(self.session, transaction)
        self._enter(State.READY)
        if self._is_shutting_down:
            self._wait_for_client(_GRACE)
        if self._holds:
            self.release(Hold.ANSWER)

    def _abort(self, reason: str) -> None:
        """Give up the transaction, if there is one, before its content was complete."""
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.content.discard()
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            abort(transaction.delivery, reason)
            if self._state >= State.SENDER:
                self.factory.transaction_ended(self.session, transaction)
        self._is_past_the_dot = False


def _give_back(delivery: Any) -> None:
    """A delivery that came too late for its message."""
    if callable(getattr(delivery, "aborted", None)):
        abort(delivery, "too late")


#: What a session that the server wants to end still answers in the usual way.
_FAREWELL = {b"QUIT": LMTPProtocol.do_QUIT}
