"""``/health`` for balancers."""

from __future__ import annotations

from typing import Any

from twisted.web.http import SERVICE_UNAVAILABLE
from twisted.web.server import NOT_DONE_YET

from lmtp_twisted.daemon.members import Members
from lmtp_twisted.daemon.web.plain import TEXT, Shown


class Health(Shown):
    """
    200 while some process takes mail, else 503.

    :param members: who is asked whether they are ``taking`` sessions.
    """

    def __init__(self, members: Members) -> None:
        super().__init__()
        self._members = members

    def render_GET(self, request: Any) -> object:
        """The answer, once all have said theirs."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answered(answers: dict[str, Any]) -> None:
            if not gone:
                self._say(request, any(answers.values()))

        self._members.ask("taking").addCallback(answered)
        return NOT_DONE_YET

    def _say(self, request: Any, is_well: bool) -> None:
        if not is_well:
            request.setResponseCode(SERVICE_UNAVAILABLE)
        request.setHeader(b"content-type", TEXT)
        request.write(b"ok\n" if is_well else b"not taking mail\n")
        request.finish()
