"""
One transaction: MAIL, RCPT for each recipient, the content, and a final reply for each recipient that was accepted (RFC
2033 §4.2), in that order. Whatever happens, each recipient gets what was said of it, or why nothing was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing

from lmtp_twisted.client import commands
from lmtp_twisted.client.content import DotStuffing, Inspection, no_conversion, too_large
from lmtp_twisted.client.opening import ClientSession
from lmtp_twisted.client.outcomes import Outcomes
from lmtp_twisted.client.outgoing import BLOCK, OutgoingMessage, closable
from lmtp_twisted.client.replies import ServerReply, wrong
from lmtp_twisted.client.settings import ClientSettings
from lmtp_twisted.envelope import Envelope
from lmtp_twisted.errors import DeliveryError, PermanentFailure
from lmtp_twisted.wire.content import BareNewlines
from lmtp_twisted.wire.parameters import Body
from lmtp_twisted.wire.replies import RECIPIENT_NEEDS_SMTPUTF8, SENDER_NEEDS_SMTPUTF8, Reply


class ClientTransaction:
    """
    :param session: where it runs.
    :param settings: of the client.
    :param envelope: the sender and all recipients.
    :param message: the content.
    :param forwarded: attributes for XFORWARD.
    :param outcomes: takes the replies, one for each recipient of the envelope.
    :ivar has_begun: whether the server has answered for this message: before that it can be sent to another connection.
    :ivar later: recipients that the server wants in another transaction, by place, and what it said.
    """

    def __init__(
        self,
        session: ClientSession,
        settings: ClientSettings,
        envelope: Envelope,
        message: OutgoingMessage,
        forwarded: Mapping[str, str | None],
        outcomes: Outcomes,
    ) -> None:
        self.has_begun = False
        self.later: dict[int, Reply] = {}
        self._session = session
        self._connection = session.connection
        self._able = session.able
        self._times = settings.timeouts
        self._is_pipelined = "PIPELINING" in session.able
        self._envelope = envelope
        self._message = message
        self._forwarded = forwarded
        self._outcomes = outcomes
        self._body = self._body_type()
        self._is_binary = self._body is Body.BINARY_MIME
        self._is_chunked = "CHUNKING" in session.able and (settings.uses_chunking or self._is_binary)
        self._newlines = settings.bare_newlines

    async def run(self, places: Sequence[int]) -> None:
        """
        :param places: of the recipients of this transaction in the envelope.
        :raises DeliveryError: which is then what the recipients without a reply are told.
        """
        self._refuse_message()
        lines = dict(self._rcpt_lines(places))
        if not lines:
            return
        session, sender = self._session, self._envelope.sender
        smtputf8 = sender.parameters.smtputf8 or not all(
            address is None or address.is_ascii
            for address in (sender.address, *(self._envelope.recipients[place].address for place in lines))
        )
        size = self._message.size if self._message.size is not None else sender.parameters.size
        mail = commands.mail(sender, self._able, size=size, body=self._body, smtputf8=smtputf8)
        session.transactions += 1
        session.is_clean = False
        if await self._content_is_wanted(mail, lines):
            await self._send_content()
            session.is_clean = True

    # What the server cannot take is not sent to it

    def _body_type(self) -> Body | None:
        declared = self._envelope.sender.parameters.body
        if declared is Body.BINARY_MIME:
            return declared
        if "8BITMIME" not in self._able:
            return None
        if declared is None and not self._message.is_ascii:
            # Nobody knows yet. It promises nothing that would be wrong (RFC 6152 §2).
            return Body.EIGHT_BIT_MIME
        return declared

    def _refuse_message(self) -> None:
        """For all recipients, before anything is said."""
        sender, able = self._envelope.sender, self._able
        given = sender.parameters
        if "SMTPUTF8" not in able and (given.smtputf8 or not (sender.address is None or sender.address.is_ascii)):
            raise PermanentFailure(
                "The message needs SMTPUTF8, which the server has not",
                code=SENDER_NEEDS_SMTPUTF8.code,
                enhanced=SENDER_NEEDS_SMTPUTF8.enhanced,
            )
        if self._is_binary and not ("BINARYMIME" in able and "CHUNKING" in able):
            raise no_conversion("BINARYMIME")
        if given.body is Body.EIGHT_BIT_MIME and "8BITMIME" not in able:
            raise no_conversion("8BITMIME")
        if given.requiretls and not (self._session.is_secure and "REQUIRETLS" in able):
            raise PermanentFailure("REQUIRETLS support required", code=550, enhanced="5.7.30")
        if able.size is not None and self._message.size is not None and self._message.size > able.size:
            raise too_large(able.size)

    def _rcpt_lines(self, places: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for place in places:
            recipient = self._envelope.recipients[place]
            if not recipient.address.is_ascii and "SMTPUTF8" not in self._able:
                text = "The recipient needs SMTPUTF8, which the server has not"
                code, enhanced = RECIPIENT_NEEDS_SMTPUTF8.code, RECIPIENT_NEEDS_SMTPUTF8.enhanced
                self._outcomes.fill(place, Reply(code, enhanced, text))
                continue
            try:
                yield place, commands.rcpt(recipient, self._able)
            except ValueError:
                self._outcomes.fill(place, Reply(553, "5.1.3", "The recipient's address cannot be sent"))

    # Commands

    async def _content_is_wanted(self, mail: bytes, rcpts: Mapping[int, bytes]) -> bool:
        """The envelope. Whether the content is to follow; the recipients who want it are noted."""
        self._accepted: list[int] = []
        forward = [] if "XFORWARD" not in self._able else list(commands.xforward(self._forwarded, self._able))
        data = [] if self._is_chunked else [b"DATA\r\n"]
        if self._is_pipelined:
            lines = [*forward, mail, *rcpts.values(), *data]
            self._connection.send(b"".join(lines), len(lines))
        for line in forward:
            # It is help for a log, and no reason to keep the message.
            await self._answer(line)
        answer = await self._answer(mail)
        self.has_begun = True
        refusal = None if answer.is_positive else answer.outcome()
        for place, line in rcpts.items():
            if refusal is None or self._is_pipelined:
                answer = await self._answer(line)
                if refusal is None:
                    self._note(place, answer)
        for place in rcpts if refusal is not None else ():
            self._outcomes.fill(place, refusal)
        if self._is_chunked:
            return bool(self._accepted)
        if not (self._accepted or self._is_pipelined):
            return False
        answer = await self._answer(b"DATA\r\n", self._times.data)
        if answer.code == 354:
            if not self._accepted:
                raise wrong("The server wants the content of a message without recipients")
            return True
        outcome = answer.outcome()
        if answer.is_positive:
            raise wrong(f"The server gave a reply that makes no sense here: {answer}")
        for place in self._accepted:
            self._outcomes.fill(place, outcome)
        return False

    async def _answer(self, line: bytes, timeout: float | None = None) -> ServerReply:
        """The reply to a command, which was sent already where commands are pipelined."""
        if not self._is_pipelined:
            self._connection.send(line, 1)
        answer = await self._connection.reply(timeout or self._times.command)
        if answer.code == 421:
            raise answer.goodbye()
        return answer

    def _note(self, place: int, answer: ServerReply) -> None:
        """What was said to RCPT."""
        outcome = answer.outcome()
        if answer.is_positive:
            self._accepted.append(place)
        elif answer.code == 452 and answer.enhanced == "4.5.3" and self._accepted:
            # Not the recipient but their number (RFC 5321 §4.5.3.1.10): they can have a transaction of their own.
            self.later[place] = outcome
        else:
            self._outcomes.fill(place, outcome)

    # Content

    async def _send_content(self) -> None:
        connection = self._connection
        connection.begin_content()
        try:
            await (self._send_chunks() if self._is_chunked else self._send_lines())
        finally:
            connection.end_content()
        for place in self._accepted:
            answer = await connection.reply(self._times.final)
            self._outcomes.fill(place, answer.outcome())

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """The content, as it is to be sent."""
        newlines = None if self._is_binary else self._newlines
        if newlines is BareNewlines.KEEP:
            newlines = None if self._is_chunked else BareNewlines.REJECT
        inspection = Inspection(newlines, self._able.size, self._is_binary or "8BITMIME" in self._able)
        async with aclosing(closable(self._message.chunks())) as chunks:
            async for chunk in chunks:
                yield inspection.feed(chunk)
        yield inspection.finish()

    async def _send_lines(self) -> None:
        stuffing, connection = DotStuffing(), self._connection
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                await connection.send_content(stuffing.feed(piece), self._times.block)
        connection.send(stuffing.finish(), len(self._accepted))

    async def _send_chunks(self) -> None:
        """BDAT (RFC 3030 §2). The replies to chunks are read as they come."""
        connection, gathered, size, owed = self._connection, [b""], 0, 0
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                # What was gathered is sent when more comes: the last chunk has to say that it is the last.
                if size >= BLOCK and piece:
                    await connection.send_content(_chunk(gathered, size), self._times.block, 1)
                    gathered, size, owed = [], 0, owed + 1
                    while owed and (connection.has_reply or not self._is_pipelined):
                        owed -= 1
                        self._look_at(await connection.reply(self._times.block))
                gathered.append(piece)
                size += len(piece)
        connection.send(_chunk(gathered, size, b" LAST"), len(self._accepted))
        for _ in range(owed):
            self._look_at(await connection.reply(self._times.block))

    def _look_at(self, answer: ServerReply) -> None:
        """What was said to a chunk that is not the last: a refusal is of the message, and the rest is not sent."""
        outcome = answer.outcome()
        if not answer.is_positive:
            for place in self._accepted:
                self._outcomes.fill(place, outcome)
            raise DeliveryError(answer.code, answer.enhanced, answer.text)


def _chunk(gathered: list[bytes], size: int, mark: bytes = b"") -> bytes:
    return b"".join((b"BDAT %d%b\r\n" % (size, mark), *gathered))
