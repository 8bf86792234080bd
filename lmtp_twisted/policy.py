"""A policy that is asked before a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.python.failure import Failure
from zope.interface import implementer

from lmtp_twisted.awaiting import FAILURES, abort, deferred_of, go_on
from lmtp_twisted.envelope import Recipient, Sender
from lmtp_twisted.interfaces import IContainingDelivery, ILMTPDeliveryFactory, IReceivedMessage, IStreamingDelivery
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.verdict import RECIPIENT, SENDER, VERIFY, Question, backend_for, verify, wants_to_stream
from lmtp_twisted.wire.replies import CANNOT_VERIFY


@implementer(ILMTPDeliveryFactory)
class PolicyFirst:
    """
    A backend behind a policy. The backend gives its delivery when the policy does, but of a sender or a recipient that
    the policy refuses it never hears.

    :param policy: its deliveries' ``validateFrom``, ``validateTo`` and ``aborted`` are called; ``deliver`` is not.
    :param backend: delivers.
    """

    def __init__(self, policy: Any, backend: Any) -> None:
        self._policy = policy
        self._backend = backend

    def getDelivery(self, session: SessionInfo) -> Any:
        """A delivery of each, as one."""
        return go_on(self._policy.getDelivery(session), lambda policy: self._with_backend(policy, session))

    def _with_backend(self, policy: Any, session: SessionInfo) -> Any:
        def refused(failure: Failure) -> Failure:
            abort(policy, "the backend refused")
            return failure

        try:
            backend = self._backend.getDelivery(session)
            waiting = deferred_of(backend)
        except FAILURES:
            abort(policy, "the backend refused")
            raise
        if waiting is None:
            return _PolicyDelivery(policy, backend, self._backend)
        return waiting.addCallbacks(lambda backend: _PolicyDelivery(policy, backend, self._backend), refused)


@implementer(IContainingDelivery, IStreamingDelivery)
class _PolicyDelivery:
    def __init__(self, policy: Any, backend: Any, given_by: Any) -> None:
        self._policy = policy
        self._backend = backend
        self._given_by = given_by
        if getattr(backend, "streams", None) is None:
            self.streams = None  # type: ignore[method-assign, assignment]  # most have none, and need not be asked

    def validateFrom(self, sender: Sender) -> Any:
        return _ask_in_turn(SENDER, self._policy.validateFrom(sender), lambda: self._backend.validateFrom(sender))

    def validateTo(self, recipient: Recipient) -> Any:
        return _ask_in_turn(RECIPIENT, self._policy.validateTo(recipient), lambda: self._backend.validateTo(recipient))

    def verifyAddress(self, recipient: Recipient) -> Any:
        ask = getattr(self._policy, "verifyAddress", None)
        # What it would refuse at RCPT is not for VRFY to tell.
        if ask is None:
            return CANNOT_VERIFY
        return _ask_in_turn(VERIFY, ask(recipient), lambda: verify(self._backend, recipient))

    def backendFor(self, recipient: Recipient) -> Any:
        return backend_for(self._backend, recipient, self._given_by)

    def streams(self, recipients: Sequence[Recipient]) -> bool:
        return wants_to_stream(self._backend, recipients)

    def deliver(self, message: IReceivedMessage) -> Any:
        return self._backend.deliver(message)

    def aborted(self, reason: str) -> None:
        abort(self._policy, reason)
        abort(self._backend, reason)


def _ask_in_turn(question: Question, answer: Any, ask_backend: Callable[[], Any]) -> Any:
    """The backend's answer, where the policy's is positive; else the policy's."""

    def decide(answer: Any) -> Any:
        verdict = question.verdict(answer)
        return ask_backend() if verdict.is_positive else verdict

    return go_on(answer, decide)
