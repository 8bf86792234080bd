"""
A recipient → those whom its mail is for: aliases, subaddresses, and what the directory knows.

An alias comes first, as it is given or else without its detail. What is no alias is looked up in the directory, and
what is not there goes where ``@domain`` says. Targets of aliases are looked up too, so every recipient in the end is
one that exists.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from lmtp_twisted.aliases import Aliases
from lmtp_twisted.awaiting import FAILURES, deferred_of, go_on
from lmtp_twisted.combining import result_of
from lmtp_twisted.envelope import DirectoryEntry, Recipient
from lmtp_twisted.errors import DeliveryError, PermanentFailure, TemporaryFailure
from lmtp_twisted.patterns import compile_pattern, text_of
from lmtp_twisted.settings import Settings
from lmtp_twisted.watched import WatchedFile
from lmtp_twisted.wire.addresses import Address, check_separator, split_detail
from lmtp_twisted.wire.parameters import OriginalRecipient

_log = Logger(namespace="lmtp_twisted")

_NO_ALIASES = Aliases()
# What the answer is for a recipient whom the directory is not asked about.
_NOT_ASKED = DirectoryEntry()


class Resolver:
    """
    What :class:`~lmtp_twisted.resolving.Resolving` asks.

    :param aliases: the aliases, or a file of them that is watched.
    :param directory: an :class:`~lmtp_twisted.interfaces.IRecipientDirectory`; without one, everybody exists.
    :param covers: patterns of the recipients that the directory knows; by default all.
    :param separator: characters of which the first in a local part begins its detail; with none there are no details.
    :param keep_detail: whether the backend gets details; an alias then hands its own on to its targets.
    :param hostname: for the directory, the domain of recipients that have none; that of the machine by default.
    :raises ValueError: where a pattern is none, or the separator is none.
    """

    def __init__(
        self,
        *,
        aliases: Aliases | WatchedFile[Aliases] | None = None,
        directory: Any = None,
        covers: Sequence[str] = (),
        separator: str = "+",
        keep_detail: bool = True,
        hostname: str | None = None,
    ) -> None:
        check_separator(separator)
        self._aliases = _NO_ALIASES if aliases is None else aliases
        self._directory = directory
        self._covers = [compile_pattern(pattern) for pattern in covers]
        self._separator = separator
        self._keeps_detail = keep_detail
        self._hostname = hostname or Settings().hostname

    def resolve(self, recipient: Recipient) -> Any:
        """
        :param recipient: as the client gave it.
        :returns: a tuple of those whom it stands for, itself where it needs no change; or a Deferred of it.
        :raises lmtp_twisted.errors.DeliveryError: ``550 5.1.1`` where it does not exist, or one that its alias names;
            ``451 4.3.0`` where the directory cannot tell.
        """
        if isinstance(self._aliases, Aliases):
            return self._resolve(recipient, self._aliases)
        return go_on(self._aliases.current(), partial(self._resolve, recipient))

    def _resolve(self, recipient: Recipient, aliases: Aliases) -> Any:
        address = recipient.address
        targets = self._targets_of(address, aliases)
        if targets is not None:
            return self._all_of(recipient, targets)
        kept = address if self._keeps_detail else self._without_detail(address)
        return go_on(self._entry_of(kept), partial(self._decide, recipient, kept, aliases))

    def _targets_of(self, address: Address, aliases: Aliases) -> tuple[Address, ...] | None:
        targets = aliases.targets_of(address)
        user, detail = split_detail(address.local, self._separator)
        if targets is not None or not detail:
            return targets
        targets = aliases.targets_of(Address(user, address.domain))
        if targets is None or not self._keeps_detail:
            return targets
        return tuple(
            target
            if split_detail(target.local, self._separator)[1]
            else attrs.evolve(target, local=target.local + detail)
            for target in targets
        )

    def _without_detail(self, address: Address) -> Address:
        user, detail = split_detail(address.local, self._separator)
        return Address(user, address.domain) if detail else address

    def _decide(self, recipient: Recipient, address: Address, aliases: Aliases, entry: DirectoryEntry | None) -> Any:
        if entry is None or entry is _NOT_ASKED:
            there = aliases.targets_in_domain(address)
            if there:
                targets = [found for to in there for found in self._targets_of(to, aliases) or (to,)]
                return self._all_of(recipient, tuple(dict.fromkeys(targets)))
        if entry is None:
            # A server that takes mail at all takes it for its postmaster (RFC 5321 §4.5.1).
            if address.domain or address.local.lower() != "postmaster":
                raise _no_such_recipient()
            entry = _NOT_ASKED
        return (_become(recipient, address, entry),)

    def _all_of(self, recipient: Recipient, targets: tuple[Address, ...]) -> Any:
        if self._directory is None:
            return tuple(_become(recipient, target, _NOT_ASKED) for target in targets)
        return self._find_all(recipient, targets)

    async def _find_all(self, recipient: Recipient, targets: tuple[Address, ...]) -> tuple[Recipient, ...]:
        found: list[Recipient] = []
        for target in targets:
            entry = await result_of(partial(self._entry_of, target))
            if isinstance(entry, Failure):
                entry.raiseException()
            if entry is None:
                raise _no_such_recipient()
            found.append(_become(recipient, target, entry))
        return tuple(found)

    def _entry_of(self, address: Address) -> Any:
        """What the directory says, or a Deferred of it."""
        if self._directory is None:
            return _NOT_ASKED
        if self._covers:
            name = text_of(address)
            if not any(matches(name) for matches in self._covers):
                return _NOT_ASKED
        user, _ = split_detail(address.local, self._separator)
        asked = Address(_folded(user), _folded(address.domain or self._hostname))
        try:
            entry = self._directory.entryOf(asked)
            waiting = deferred_of(entry)
        except FAILURES:
            return self._checked(Failure(), asked)
        return self._checked(entry, asked) if waiting is None else waiting.addBoth(self._checked, asked)

    def _checked(self, entry: Any, asked: Address) -> DirectoryEntry | None:
        if entry is None or isinstance(entry, DirectoryEntry):
            return entry
        if isinstance(entry, Failure) and isinstance(entry.value, DeliveryError):
            raise entry.value
        if isinstance(entry, DeliveryError):
            raise entry
        if isinstance(entry, Failure):
            _log.failure("the directory failed: answered 451", entry)
        else:
            _log.error("the directory gave {entry!r}, which is no entry: answered 451", entry=entry)
        raise directory_not_available()


def directory_not_available() -> TemporaryFailure:
    """The directory cannot tell, which says nothing about the recipient."""
    return TemporaryFailure("Recipient directory not available, try again later", enhanced="4.3.0")


def _no_such_recipient() -> PermanentFailure:
    return PermanentFailure("No such recipient", code=550, enhanced="5.1.1")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower())


def _become(recipient: Recipient, address: Address, entry: DirectoryEntry) -> Recipient:
    """The recipient with another address, and with what the directory knows of that."""
    found = None if entry is _NOT_ASKED else entry
    parameters = recipient.parameters
    if address == recipient.address:
        return recipient if found is None else Recipient(recipient.address, parameters, found)
    if parameters.orcpt is None:
        # Whoever changes the recipient says what it was (RFC 3461 §5.2.1).
        kind = "rfc822" if recipient.address.is_ascii else "utf-8"
        parameters = attrs.evolve(parameters, orcpt=OriginalRecipient(kind, str(recipient.address)))
    return Recipient(address, parameters, found)
