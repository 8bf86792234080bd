"""What a process that serves mail answers of the messages that its ``memory:`` backends keep."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

import attrs
from zope.interface import implementer

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.memory import KeptMessage, MemoryBackend
from lmtp_twisted.daemon.inbox.decoding import value_of
from lmtp_twisted.daemon.members import Answers
from lmtp_twisted.envelope import Envelope, Outcome
from lmtp_twisted.interfaces import ISessionObserver
from lmtp_twisted.session import SessionInfo
from lmtp_twisted.wire.replies import printable

#: Octets of a content in one answer.
BLOCK = 1024 * 1024
#: Messages in one answer, the latest of all; and recipients of each.
MOST_LISTED = 500
MOST_RECIPIENTS = 20
# Messages of which it is known what was replied.
_MOST_REPLIES = 10_000
_SUBJECT = re.compile(rb"(?:\A|\n)subject[ \t]{0,20}:", re.IGNORECASE)
_END_OF_VALUE = re.compile(rb"\n(?![ \t])")
_MOST_OF_HEAD = 64 * 1024
# Octets of a subject that are looked at.
_MOST_OF_SUBJECT = 1000


@implementer(ISessionObserver)
class InboxAnswers:
    """
    It also listens to sessions, since what was replied to a message is not known to who keeps it.
    """

    def __init__(self) -> None:
        self._contexts: list[BackendContext] = []
        # By the message's id, for each recipient its reply id and the reply.
        self._replies: dict[str, list[tuple[str, str, str]]] = {}

    def watch(self, context: BackendContext) -> bool:
        """
        Answer for backends too, until they end.

        :param context: theirs.
        :returns: whether there is something to answer for.
        """
        self._contexts.append(context)
        context.add_shutdown(lambda: self._contexts.remove(context))
        return bool(self._inboxes())

    def _inboxes(self) -> list[tuple[str, MemoryBackend]]:
        """The backends of now. Those that have no name of their own have a number behind it, from the second on."""
        inboxes: dict[str, MemoryBackend] = {}
        for context in self._contexts:
            for label, backend in context.labelled:
                if isinstance(backend, MemoryBackend):
                    number = sum(known.partition(" ")[0] == label for known in inboxes) + 1
                    inboxes[label if number == 1 else f"{label} {number}"] = backend
        return list(inboxes.items())

    def answers(self) -> Answers:
        """For :class:`~lmtp_twisted.daemon.members.Members`."""
        return {"inbox": self.list, "message": self.message, "clear_inbox": self.clear}

    # What is asked

    def list(self, wanted: Mapping[str, str] | None) -> dict[str, Any]:
        """
        :param wanted: parts of what the messages shall have, by ``to``, ``from``, ``subject`` and ``backend``; ``None``
            to ask for the revision alone.
        :returns: ``labels`` of the backends, the ``revision``, which is another where something has changed, and
            ``messages``, the latest last.
        """
        inboxes = self._inboxes()
        answer: dict[str, Any] = {
            "labels": [label for label, _ in inboxes],
            "revision": sum(backend.revision for _, backend in inboxes),
        }
        if wanted is not None:
            matching = [
                (message, key, label) for message, key, label in self._messages() if _has(message, label, wanted)
            ]
            answer["count"] = len(matching)
            answer["messages"] = [_summary(*found) for found in matching[-MOST_LISTED:]]
        return answer

    def message(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        :param wanted: ``key``, and ``start``: where to begin in the content.
        :returns: ``None`` where there is none; else a ``block`` of the content in base64 and its ``size``; and all else
            that is known of the message, with the first block.
        """
        for message, key, label in self._messages():
            if key == wanted["key"]:
                block = message.content[wanted["start"] : wanted["start"] + BLOCK]
                answer = {"size": len(message.content), "block": b64encode(block).decode("ascii")}
                return answer if wanted["start"] else {**self._facts(message, key, label), **answer}
        return None

    def clear(self, _wanted: object) -> int:
        """Forget all; how many they were."""
        count = sum(len(backend.messages) for _, backend in self._inboxes())
        for _, backend in self._inboxes():
            backend.clear()
        self._replies.clear()
        return count

    def _messages(self) -> Iterator[tuple[KeptMessage, str, str]]:
        for index, (label, backend) in enumerate(self._inboxes()):
            # A message may have gone to several of them.
            behind = f"~{index + 1}" if index else ""
            for message in backend.messages:
                yield message, f"{message.key}{behind}", label

    def _facts(self, message: KeptMessage, key: str, label: str) -> dict[str, Any]:
        sender, origin = message.envelope.sender, message.origin
        replies = {who: (reply_id, reply) for who, reply_id, reply in self._replies.get(message.id, ())}
        return {
            **_summary(message, key, label),
            "id": message.id,
            "sender": {"address": str(sender), "parameters": _parameters(sender.parameters)},
            "recipients": [
                {
                    "address": str(recipient),
                    "parameters": _parameters(recipient.parameters),
                    "reply_id": replies.get(str(recipient), (None, None))[0],
                    "reply": replies.get(str(recipient), (None, None))[1],
                }
                for recipient in message.envelope.recipients
            ],
            "peer": origin.peer,
            "lhlo_name": origin.lhlo_name,
            "user": origin.user,
            "tls": None if origin.tls is None else {"version": origin.tls.version, "cipher": origin.tls.cipher},
            "trace": message.trace.decode("utf-8", "replace"),
        }

    # What sessions tell

    def transactionEnded(self, session: SessionInfo, envelope: Envelope, outcomes: tuple[Outcome, ...]) -> None:
        """What was replied."""
        if not outcomes:
            return
        id = outcomes[0].reply_id.rpartition(".")[0]
        keepers = [backend for _, backend in self._inboxes() if backend.message(id) is not None]
        if not keepers:
            return
        while len(self._replies) >= _MOST_REPLIES:
            del self._replies[next(iter(self._replies))]
        # Of a recipient that was given twice the first.
        self._replies[id] = [
            (str(outcome.recipient), outcome.reply_id, printable(outcome.reply.encoded.decode("ascii").strip()))
            for outcome in reversed(outcomes)
        ]
        for backend in keepers:
            backend.revision += 1

    def sessionStarted(self, session: SessionInfo) -> None:
        """Nothing of it is shown."""

    def sessionSecured(self, session: SessionInfo) -> None:
        """Nothing of it is shown."""

    def sessionAuthenticated(self, session: SessionInfo) -> None:
        """Nothing of it is shown."""

    def limitReached(self, session: SessionInfo, limit: object) -> None:
        """Nothing of it is shown."""

    def authenticationFailed(self, session: SessionInfo, mechanism: str) -> None:
        """Nothing of it is shown."""

    def senderRefused(self, session: SessionInfo, sender: object, reply: object) -> None:
        """Nothing of it is shown."""

    def recipientRefused(
        self, session: SessionInfo, sender: object, recipient: object, reply: object, backend: object
    ) -> None:
        """Nothing of it is shown."""

    def sessionEnded(self, session: SessionInfo) -> None:
        """Nothing of it is shown."""


def _subject(message: KeptMessage) -> str:
    """Found once: the list is asked for again and again, in the thread that serves mail."""
    if "subject" not in message.notes:
        message.notes["subject"] = _find_subject(message.content)
    return message.notes["subject"]


def _find_subject(content: bytes) -> str:
    head = content[:_MOST_OF_HEAD]
    ends = [end for end in (head.find(b"\n\n"), head.find(b"\n\r\n")) if end >= 0]
    match = _SUBJECT.search(head, 0, min(ends, default=len(head)))
    if match is None:
        return ""
    value = _END_OF_VALUE.split(head[match.end() : match.end() + _MOST_OF_SUBJECT], maxsplit=1)[0]
    return value_of(value)[:200]


def _has(message: KeptMessage, label: str, wanted: Mapping[str, str]) -> bool:
    def holds(key: str, *values: str) -> bool:
        part = wanted.get(key, "").lower()
        return not part or any(part in value.lower() for value in values)

    return (
        holds("to", *message.recipients)
        and holds("from", message.sender)
        and wanted.get("backend", label) == label
        and ("subject" not in wanted or holds("subject", _subject(message)))
    )


def _summary(message: KeptMessage, key: str, label: str) -> dict[str, Any]:
    return {
        "key": key,
        "backend": label,
        "received": datetime.fromtimestamp(message.time, timezone.utc).isoformat(timespec="milliseconds"),
        "from": message.sender,
        "to": list(message.recipients[:MOST_RECIPIENTS]),
        "subject": _subject(message),
        "size": len(message.content),
    }


def _parameters(parameters: Any) -> dict[str, Any]:
    """Those that were given, by their names in the RFCs."""
    given: dict[str, Any] = {}
    for field in attrs.fields(type(parameters)):
        name, value = field.name, getattr(parameters, field.name)
        if name == "keywords" or value is None or value is False:
            continue
        if hasattr(value, "name") and hasattr(value, "value"):
            value = value.value if isinstance(value.value, str) else str(value).rpartition(".")[2]
        elif attrs.has(type(value)):
            value = f"{value.type};{value.address}"
        given[name.replace("mt_priority", "mt-priority").upper()] = value
    return given
