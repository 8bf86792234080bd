"""Who is connected now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nsmallest
from typing import Any

from lmtp_twisted.protocol import LMTPProtocol
from lmtp_twisted.session import began_at

#: Sessions that are told, each with what it does.
MOST_SESSIONS = 300


def sessions(protocols: Iterable[LMTPProtocol]) -> dict[str, Any]:
    """
    :param protocols: the sessions of a process.
    :returns: see :mod:`lmtp_twisted.daemon.monitoring`.
    """
    protocols = list(protocols)
    # The id of a session begins with its time.
    longest = nsmallest(MOST_SESSIONS, protocols, key=lambda protocol: protocol.session.id)
    return {"total": len(protocols), "sessions": [_told(protocol) for protocol in longest]}


def _told(protocol: LMTPProtocol) -> dict[str, Any]:
    session = protocol.session
    return {
        "id": session.id,
        "peer": session.peer_name,
        "since": began_at(session.id),
        "lhlo": session.lhlo_name,
        "tls": None if session.tls is None else session.tls.version,
        "user": session.user,
        "messages": protocol.transactions,
        "doing": protocol.activity.value,
    }


def sessions_as_one(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """
    :param answers: of several processes, by their keys.
    :returns: the same form, each session with the key of its process as ``"worker"``.
    """
    rows = [{**row, "worker": key} for key, answer in answers.items() for row in answer["sessions"]]
    return {
        "total": sum(answer["total"] for answer in answers.values()),
        "sessions": nsmallest(MOST_SESSIONS, rows, key=lambda row: row["since"]),
    }
