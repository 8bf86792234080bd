"""What a session is offered, by what kind of session it is: the reply to LHLO, and what follows from it."""

from __future__ import annotations

from typing import Any

import attrs

from lmtp_twisted.extensions.sasl import Mechanism, mechanisms_for
from lmtp_twisted.session import Link, SessionInfo
from lmtp_twisted.settings import Settings
from lmtp_twisted.wire.attributes import XCLIENT, XFORWARD
from lmtp_twisted.wire.replies import encode_lines

# The parameters of MAIL and RCPT that go with a capability, and are refused where it is switched off.
_KEYWORDS = {
    "SIZE": {"SIZE"},
    "SMTPUTF8": {"SMTPUTF8"},
    "DSN": {"RET", "ENVID", "NOTIFY", "ORCPT"},
    "MT-PRIORITY": {"MT-PRIORITY"},
}


@attrs.frozen
class Offer:
    """
    :ivar lhlo_reply: the reply to LHLO.
    :ivar mechanisms: of AUTH.
    :ivar refused_keywords: parameters of MAIL and RCPT that are refused.
    """

    lhlo_reply: bytes
    mechanisms: tuple[Mechanism, ...]
    refused_keywords: frozenset[str]


class Offers:
    """
    :param settings: the settings.
    :param offers_tls: whether STARTTLS can be had.
    :param interfaces: of the credentials that can be checked.
    """

    def __init__(self, settings: Settings, offers_tls: bool, interfaces: Any) -> None:
        self._settings = settings
        self._offers_tls = offers_tls
        self._interfaces = interfaces
        self._made: dict[tuple[bool, bool, bool, bool], Offer] = {}

    def to(self, session: SessionInfo) -> Offer:
        """What a session is offered as it is now."""
        tls = session.tls
        is_private = (
            tls is not None
            or session.link is Link.UNIX
            or (session.link is Link.LOOPBACK and self._settings.auth_insecure)
        )
        kind = (
            tls is not None,
            is_private,
            # After XCLIENT it is the proxy's, and proves nothing of the client.
            tls is not None and tls.peer_certificate is not None and not session.xclient,
            session.is_trusted,
        )
        offer = self._made.get(kind)
        if offer is None:
            offer = self._made[kind] = self._make(*kind)
        return offer

    def _make(self, is_secure: bool, is_private: bool, has_certificate: bool, is_trusted: bool) -> Offer:
        settings, extensions = self._settings, []
        mechanisms = tuple(
            mechanism
            for mechanism in mechanisms_for(self._interfaces, is_private=is_private, has_certificate=has_certificate)
            if settings.disabled.isdisjoint({"AUTH", mechanism.name})
        )
        if self._offers_tls and not is_secure:
            extensions.append("STARTTLS")
        if mechanisms:
            extensions.append(" ".join(["AUTH", *(mechanism.name for mechanism in mechanisms)]))
        if is_trusted:
            extensions += [" ".join(["XCLIENT", *XCLIENT]), " ".join(["XFORWARD", *XFORWARD])]
        lines = settings.capabilities(is_secure=is_secure, extensions=extensions)
        refused = set[str]().union(*(_KEYWORDS.get(name, set()) for name in settings.disabled))
        if "REQUIRETLS" not in lines:
            refused.add("REQUIRETLS")
        if not mechanisms:
            refused.add("AUTH")
        return Offer(encode_lines(250, [settings.hostname, *lines]), mechanisms, frozenset(refused))
