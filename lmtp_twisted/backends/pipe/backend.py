"""The backend: which recipients it takes, and what becomes of their messages. It runs in the reactor thread."""

from __future__ import annotations

import os
import re
from functools import partial
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import YES_OR_NO, choose
from lmtp_twisted.backends.maildir.lines import Newlines
from lmtp_twisted.backends.maildir.naming import Case
from lmtp_twisted.backends.pipe.account import Account, home_of
from lmtp_twisted.backends.pipe.command import Command
from lmtp_twisted.backends.pipe.content import Form
from lmtp_twisted.backends.pipe.program import Ended, Program, run
from lmtp_twisted.backends.pipe.queue import Queue
from lmtp_twisted.backends.pipe.statuses import outcome_of
from lmtp_twisted.backends.pipe.values import Naming, check_sender, environment_of, values_of
from lmtp_twisted.callables import RecipientDelivery
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.errors import DeliveryError, TemporaryFailure
from lmtp_twisted.interfaces import IMeasuredBackend, IReceivedMessage
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.settings import Settings
from lmtp_twisted.wire.addresses import check_separator
from lmtp_twisted.wire.replies import printable

_log = Logger(namespace="lmtp_twisted")

# What a program is given of our own environment: where programs are, and how people there read and tell the time.
_PASSED_ON = re.compile(r"PATH|TZ|LANG|LC_\w+")
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")
_COUNT = re.compile(r"[0-9]{1,4}")
# Characters of a program's errors in the log.
_LOGGED = 500
_PLAIN = Form()


@implementer(IMeasuredBackend)
class PipeBackend(RecipientDelivery):
    """
    Gives messages to a program, one recipient at a time. Its own delivery, since it keeps nothing of a message before
    ``deliver``::

        factory = LMTPFactory(backend=PipeBackend("/usr/local/bin/deliver {recipient}"))

    :param command: the program and its arguments as a shell would read them, but no shell does. An argument may be a
        placeholder such as ``{recipient}``.
    :param user: ``USER`` or ``USER:GROUP`` as whom it runs; by default it is who we are.
    :param directory: where it runs; by default the current one of now.
    :param beside: below which the program is where its path is relative; by default the current directory of now.
    :param timeout: seconds that it may run.
    :param processes: how many run at a time.
    :param queue: how many may wait for their turn before new messages are put off.
    :param separator: characters of which the first in a local part begins its detail; where it is empty nothing does.
    :param case: of users.
    :param form: how it is given the message.
    :param hostname: our name, and the domain of recipients that have none; that of the machine by default.
    :param reactor: the global reactor by default.
    :raises ValueError: where the command cannot be run, or an option makes no sense.
    """

    def __init__(
        self,
        command: str,
        *,
        user: str = "",
        directory: str = "",
        beside: str | None = None,
        timeout: float = 300.0,
        processes: int = 20,
        queue: int = 200,
        separator: str = "+",
        case: Case = Case.FOLD,
        form: Form = _PLAIN,
        hostname: str | None = None,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._command = Command.parse(command, beside)
        self._account = Account.parse(user) if user else None
        self._directory = os.path.abspath(directory)
        if not os.path.isdir(self._directory):
            raise ValueError(f"there is no directory {self._directory}")
        check_separator(separator)
        self._naming = Naming(hostname or Settings().hostname, case, separator)
        self._form = form
        self._timeout = timeout
        self._most_waiting = queue
        self._queue = Queue(reactor, processes)
        # No message has more under way, so that one to a thousand recipients leaves turns to others.
        self.parallel = processes
        self._environment = {
            os.fsencode(name): os.fsencode(value) for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)
        }
        uid = os.geteuid() if self._account is None else self._account.uid
        self._environment |= {b"HOME": os.fsencode(home_of(uid)), b"SHELL": b"/bin/sh"}
        if uid == 0:
            _log.warn(
                "{program} is run by root for whoever sends mail: user=NAME is better", program=self._command.path
            )

    def figures(self) -> dict[str, int]:
        """See :class:`~lmtp_twisted.interfaces.IMeasuredBackend`."""
        return {"waiting": len(self._queue), "working": self._queue.running}

    def getDelivery(self, session: SessionInfo) -> PipeBackend:
        """
        This object.

        :raises lmtp_twisted.errors.TemporaryFailure: ``451 4.3.2`` while too many messages wait.
        """
        if len(self._queue) >= self._most_waiting:
            raise TemporaryFailure("Too busy, try again later", enhanced="4.3.2")
        return self

    def validateFrom(self, sender: Sender) -> None:
        """
        Accept who can be named to a program.

        :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.7``.
        """
        check_sender(sender)

    def validateTo(self, recipient: Recipient) -> None:
        """
        Accept who can be named to a program; whether there is such a mailbox, it says itself.

        :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.3``.
        """
        self._naming.mailbox_of(recipient.address)

    def deliverTo(self, message: IReceivedMessage, recipient: Recipient) -> Deferred[DeliveryError | None]:
        """Run the program, when its turn has come."""
        check_sender(message.envelope.sender)
        values = values_of(message, recipient, self._naming.mailbox_of(recipient.address))
        program = Program(
            self._command.path,
            self._command.arguments(values),
            {**self._environment, **environment_of(values)},
            self._directory,
            self._account,
        )

        return self._queue.put(partial(self._run, program, message, recipient))

    def _run(self, program: Program, message: IReceivedMessage, recipient: Recipient, stop: Event) -> Any:
        """In a thread."""
        try:
            ended = run(program, self._form.blocks(message, recipient), self._timeout, stop)
        except OSError as error:
            _log.error("{id}: {program}: {error}", id=message.id, program=program.path, error=error)
            return TemporaryFailure("Cannot deliver now, try again later", enhanced="4.3.0")
        self._log(message, recipient, ended, stop)
        return outcome_of(ended)

    def _log(self, message: IReceivedMessage, recipient: Recipient, ended: Ended, stop: Event) -> None:
        what = f"status {ended.status}" if ended.status >= 0 else f"signal {-ended.status}"
        if ended.cut is not None or ended.status != 0:
            _log.warn(
                "{id}: {program} for <{recipient}> ended with {what}{why}: {errors}",
                id=message.id,
                program=self._command.path,
                recipient=recipient.printable,
                what=what,
                why=f", {ended.cut.value}" if ended.cut is not None else "",
                errors=printable(ended.errors.decode("utf-8", "replace"), _LOGGED),
            )
        elif stop.is_set():
            _log.warn(
                "{id}: {program} delivered to <{recipient}> just before it was cancelled, so it may come once more",
                id=message.id,
                program=self._command.path,
                recipient=recipient.printable,
            )

    def shut_down(self) -> Deferred[None]:
        """
        Wait for the programs that run. The backend can still be used afterwards.

        :returns: fires when none does.
        """
        return self._queue.until_idle()


_CASES = {case.value: case for case in Case}
_NEWLINES = {newlines.value: newlines for newlines in Newlines}


def from_description(
    context: BackendContext,
    argument: str,
    *,
    user: str = "",
    directory: str = "",
    timeout: str = "300",
    processes: str = "20",
    queue: str = "200",
    separator: str = "+",
    case: str = "fold",
    newlines: str = "lf",
    from_line: str = "no",
    delivered_to: str = "no",
) -> PipeBackend:
    """``pipe:COMMAND ARGUMENT…``"""
    if not (_SECONDS.fullmatch(timeout) and float(timeout) > 0):
        raise ValueError(f"timeout is a number of seconds, not {timeout!r}")
    backend = PipeBackend(
        argument,
        user=user,
        directory=context.path(directory),
        beside=context.directory,
        timeout=float(timeout),
        processes=_count("processes", processes),
        queue=_count("queue", queue),
        separator=separator,
        case=choose("case", case, _CASES),
        form=Form(
            choose("newlines", newlines, _NEWLINES),
            choose("from_line", from_line, YES_OR_NO),
            choose("delivered_to", delivered_to, YES_OR_NO),
        ),
        hostname=context.hostname,
        reactor=context.reactor,
    )
    context.add_shutdown(backend.shut_down)
    return backend


def _count(option: str, value: str) -> int:
    if not (_COUNT.fullmatch(value) and int(value) > 0):
        raise ValueError(f"{option} is a number from 1 to 9999, not {value!r}")
    return int(value)
