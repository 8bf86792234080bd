"""
The protocol: lines and octets in, replies out.

:class:`LMTPProtocol` parses each command, looks up its handler in the table of its state
(:mod:`lmtp_twisted.sequence`) and asks the application. It decides nothing about mail itself, and writes no final
reply: that is :class:`~lmtp_twisted.transaction.Transaction`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.python.failure import Failure

from lmtp_twisted.awaiting import FAILURES, abort, deferred_of
from lmtp_twisted.envelope import Recipient, Sender, parse_recipient, parse_sender
from lmtp_twisted.errors import CommandError, DeliveryError
from lmtp_twisted.limits import Limit
from lmtp_twisted.negotiation import Negotiator
from lmtp_twisted.sequence import State
from lmtp_twisted.transaction import Transaction
from lmtp_twisted.verdict import DELIVERY, RECIPIENT, SENDER, VERIFY, verify
from lmtp_twisted.wire import replies
from lmtp_twisted.wire.commands import MAX_LINE, NotRemembered, line_limit, parse_lhlo, read_line, split_command
from lmtp_twisted.wire.replies import Reply

_RECIPIENT_OK = replies.RECIPIENT_OK.encoded
_HTTP = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH"})


class LMTPProtocol(Negotiator):
    """
    One session (RFC 2033). Made by an :class:`~lmtp_twisted.factory.LMTPFactory`.

    :param factory: the factory.
    """

    MAX_LENGTH = MAX_LINE - len("\n")

    _commands_left = 0

    def connectionMade(self) -> None:
        """The first octets may come."""
        if self.factory.settings.max_commands:
            self._commands_left = self.factory.settings.max_commands
            self.lineReceived = self.limited_line  # type: ignore[method-assign]  # of this session only
        super().connectionMade()

    def lineReceived(self, line: bytes) -> None:
        """One command."""
        try:
            verb, argument = read_line(line)
        except NotRemembered:
            verb, argument = b"", b""
        handler = self._handlers.get(verb)
        if handler is not None:
            handler(self, argument)
        elif line[-1:] == b"\r":
            self._unusual_line(line[:-1])
        elif self.factory.settings.lenient_newlines:
            self._unusual_line(line)
        else:
            self._say_and_close(replies.BARE_NEWLINE)

    def _unusual_line(self, line: bytes) -> None:
        """A line that is long, ends in a bare LF, or whose verb is not one of ours."""
        verb, argument = split_command(line)
        handler = self._handlers.get(verb)
        if len(line) + 2 > line_limit(verb):
            self.lineSkipped(line)
        elif self._last_word is not None and verb != b"QUIT":
            self._say_and_close(self._last_word)
        elif handler is not None:
            handler(self, argument)
        else:
            self.factory.unknown_command()
            self._unknown(verb, argument)

    def _unknown(self, verb: bytes, argument: bytes) -> None:
        """A verb that is not one of ours."""
        if verb in _HTTP and b"HTTP/" in argument.upper():
            self._end_for(Limit.HTTP)
        elif self._tables is self.factory.locked_handlers:
            self.count_unauthenticated(lambda protocol, _: protocol._bad(replies.UNKNOWN_COMMAND), argument)
        else:
            self._bad(replies.UNKNOWN_COMMAND)

    def lineSkipped(self, start: bytes) -> None:
        """A line that is longer than its verb allows was thrown away."""
        if self._is_in_exchange:
            self._refuse_long_response()
            return
        self.factory.limit_reached(self.session, Limit.LINE_LENGTH)
        verb, _ = split_command(start)
        self._bad(replies.AUTH_LINE_TOO_LONG if verb == b"AUTH" else replies.LINE_TOO_LONG)

    def divert_lines(self, taker: Callable[[bytes], None] | None) -> None:
        """See :meth:`HeldLineReceiver.divert_lines`. Lines that come back are counted as before."""
        if taker is None and self.factory.settings.max_commands and not self._is_closed:
            taker = self.limited_line
        super().divert_lines(taker)

    def limited_line(self, line: bytes) -> None:
        """One command, where there is a limit to their number."""
        self._commands_left -= 1
        if self._commands_left < 0:
            self._end_for(Limit.COMMANDS)
        else:
            type(self).lineReceived(self, line)

    def _refuse_path(self, error: CommandError, argument: bytes) -> Reply:
        """
        A MAIL or RCPT that the grammar does not take. Where it has a path, it is a sender or a recipient that is
        refused, and a message may have any number of these: a burst of them must not cost the good ones their replies.

        :returns: the refusal.
        """
        reply = Reply.from_error(error)
        if b"<" in argument:
            self.send(reply.encoded)
        else:
            self._bad(reply)
        return reply

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
        self.offer = self.factory.offers.to(self.session)
        self.send(self.offer.lhlo_reply)

    def do_MAIL(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.2."""
        try:
            sender = parse_sender(argument)
        except CommandError as error:
            self.factory.sender_refused(self.session, None, self._refuse_path(error, argument))
            return
        if not sender.is_plain:
            refusal = self.factory.sender_refusal(sender, self.offer, self.session)
            if refusal is not None:
                self._refuse_sender(sender, refusal)
                return
        session = self.session
        try:
            delivery = self._backend.getDelivery(session)
            waiting = deferred_of(delivery)
        except FAILURES:
            self._refuse_sender(sender, DELIVERY.verdict(Failure()))
            return
        if waiting is None:
            self._delivery_given(delivery, sender)
        else:
            self._wait(waiting, lambda delivery: self._delivery_given(delivery, sender), _give_back)

    def _delivery_given(self, delivery: Any, sender: Sender) -> None:
        if isinstance(delivery, (Failure, DeliveryError)):
            self._refuse_sender(sender, DELIVERY.verdict(delivery))
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
        transaction.room = self.factory.first_room
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
            self.session.xforward = {}
            self._refuse_sender(transaction.sender, verdict)

    def _refuse_sender(self, sender: Sender, reply: Reply) -> None:
        self.factory.sender_refused(self.session, sender, reply)
        self.send(reply.encoded)

    def do_RCPT(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.3."""
        transaction = self._transaction
        assert transaction is not None
        try:
            recipient = parse_recipient(argument)
        except CommandError as error:
            reply = self._refuse_path(error, argument)
            self.factory.recipient_refused(self.session, transaction, None, reply, self._backend)
            return
        if not recipient.is_plain or len(transaction.accepted) >= transaction.room:
            refusal = self.factory.recipient_refusal(recipient, self.offer, self.session, transaction)
            if refusal is not None:
                self._refuse_recipient(recipient, transaction, refusal)
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
            self._refuse_recipient(recipient, self._transaction, verdict)

    def _refuse_recipient(self, recipient: Recipient, transaction: Transaction, reply: Reply) -> None:
        self.factory.recipient_refused(self.session, transaction, recipient, reply, self._backend)
        self.send(reply.encoded)

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
        if not argument:
            self._bad(replies.ARGUMENT_NEEDED)
            return
        recipient = _named_by(argument)
        if recipient is None:
            self._good(replies.CANNOT_VERIFY)
            return
        try:
            delivery = self._backend.getDelivery(self.session)
            waiting = deferred_of(delivery)
        except FAILURES:
            delivery, waiting = Failure(), None
        if waiting is None:
            self._verify(recipient, delivery)
        else:
            self._wait(waiting, lambda delivery: self._verify(recipient, delivery), _give_back)

    def _verify(self, recipient: Recipient, delivery: Any) -> None:
        if isinstance(delivery, (Failure, DeliveryError)):
            self.send(DELIVERY.verdict(delivery).encoded)
            return
        try:
            answer = verify(delivery, recipient)
            waiting = deferred_of(answer)
        except FAILURES:
            answer, waiting = Failure(), None
        if waiting is None:
            abort(delivery, "VRFY")
        else:
            waiting.addBoth(_after_aborting, delivery)
        # The mailbox has to be in it (RFC 5321 §3.5.1).
        question = attrs.evolve(VERIFY, accepted=Reply(250, "2.1.5", f"<{recipient.address}>"))
        self._go_on(question, answer, waiting, self._verified)

    def _verified(self, verdict: Reply) -> None:
        if verdict.is_positive:
            self._good(verdict)
        else:
            self.send(verdict.encoded)

    def do_EXPN(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.7."""
        self.send(replies.NO_EXPANSION.encoded)

    def do_HELP(self, argument: bytes) -> None:
        """RFC 5321 §4.1.1.8."""
        self._good(self.factory.help)

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


def _give_back(delivery: Any) -> None:
    """A delivery that came too late for its message."""
    if callable(getattr(delivery, "aborted", None)):
        abort(delivery, "too late")


def _after_aborting(result: Any, delivery: Any) -> Any:
    abort(delivery, "VRFY")
    return result


def _named_by(argument: bytes) -> Recipient | None:
    """Whom the argument of VRFY names, where it is an address at all and no name of a person."""
    if argument.upper().endswith(b" SMTPUTF8"):
        argument = argument[: -len(b" SMTPUTF8")].rstrip(b" ")
    try:
        return parse_recipient(b"TO:" + (argument if argument.startswith(b"<") else b"<%b>" % argument))
    except CommandError:
        return None
