"""
A directory in a database, asked by one query through :mod:`twisted.enterprise.adbapi` in threads of our own pool.

The query has the recipient as parameters and never in its text: ``:address``, ``:local`` and ``:domain`` become what
the database's module takes. Of a row the columns ``mailbox``, ``backend`` and ``quota`` are heeded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmtp_twisted.envelope import DirectoryEntry
from lmtp_twisted.interfaces import IRecipientDirectory
from lmtp_twisted.lookups import Lookups
from lmtp_twisted.recipients import directory_not_available
from lmtp_twisted.wire.addresses import Address

_log = Logger(namespace="lmtp_twisted")

#: Queries at a time. A database that does not answer must not take every thread of the pool.
MOST_QUERIES = 4
#: Seconds between two lines in the log that say the same of it.
QUIET = 10.0

_PARAMETER = re.compile(r"(?<![:\w]):(address|local|domain)\b")
_COLUMNS = ("mailbox", "backend", "quota")
T = TypeVar("T")

_SECRET = re.compile("pass|secret|token|key", re.IGNORECASE)


class Query:
    """
    The text of a query for a module of the DB-API (PEP 249).

    :param text: with ``:address``, ``:local`` and ``:domain`` for parameters. Within quotes nothing is one.
    :param style: the module's ``paramstyle``.
    :raises ValueError: where it has no parameter, or the style is unknown.
    """

    def __init__(self, text: str, style: str) -> None:
        self._is_named = style in ("named", "pyformat")
        self._order: list[str] = []
        if style not in ("named", "pyformat", "qmark", "format", "numeric"):
            raise ValueError(f"its module has the unknown paramstyle {style!r}")
        # What is quoted stands at the odd places.
        pieces = re.split(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")""", text)
        for place, piece in enumerate(pieces):
            # A percent sign is a parameter's in these styles, and doubled where it is none, in quotes too.
            piece = piece.replace("%", "%%") if style in ("format", "pyformat") else piece
            pieces[place] = piece if place % 2 else _PARAMETER.sub(partial(self._parameter, style), piece)
        self.text = "".join(pieces)
        if not self._order:
            raise ValueError("the query asks for nobody: it needs :address, or :local and :domain")

    def _parameter(self, style: str, match: re.Match[str]) -> str:
        self._order.append(match[1])
        if style == "named":
            return f":{match[1]}"
        if style == "pyformat":
            return f"%({match[1]})s"
        return {"qmark": "?", "format": "%s"}.get(style, f":{len(self._order)}")

    def parameters(self, address: Address) -> Mapping[str, str] | Sequence[str]:
        """What stands for the parameters."""
        values = {"address": str(address), "local": address.local, "domain": address.domain}
        if self._is_named:
            return {name: values[name] for name in self._order}
        return [values[name] for name in self._order]


class _Connections(ConnectionPool):
    """
    A connection for each thread that asks. The threads are not its own, and whoever has them sees to the end of both.

    What fails is never asked to go on: a connection may be dead without knowing it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Threads that use theirs.
        self._busy: set[int] = set()
        self._is_over = False

    def start(self) -> None:
        """There is nothing to start."""

    def run(self, function: Callable[[Any], T]) -> T:
        """
        :param function: called with a connection, with a second one where the first was not new and may be dead.
        """
        thread = self.threadID()
        self._busy.add(thread)
        try:
            return self._run(function)
        finally:
            self._busy.discard(thread)
            if self._is_over:
                self._close_of(thread)

    def _run(self, function: Callable[[Any], T]) -> T:
        is_new = self.threadID() not in self.connections
        connection = self.connect()
        try:
            result = function(connection)
            # Some databases show the same state for as long as a transaction lasts.
            connection.commit()
            return result
        except Exception as error:
            self.disconnect(connection)
            if is_new or not isinstance(error, self.dbapi.Error):
                raise
        return self._run(function)

    def close_all(self) -> None:
        """Close what is open; what is in use, when its query is over: not every module bears it before."""
        self._is_over = True
        for thread in list(self.connections):
            if thread not in self._busy:
                self._close_of(thread)

    def _close_of(self, thread: int) -> None:
        connection = self.connections.pop(thread, None)
        if connection is not None:
            self._close(connection)


@implementer(IRecipientDirectory)
class DatabaseDirectory:
    """
    Recipients in a database. What it answers should be kept by a
    :class:`~lmtp_twisted.directories.cache.CachedDirectory`, which also sees to it that nobody waits for ever.

    :param module: the name of a module of the DB-API.
    :param query: see :class:`Query`. It gives a row for a recipient that exists, and none for another. Columns that are
        empty or are not there are left to the backend.
    :param reactor: takes the answers.
    :param pool: where the threads come from.
    :param connection: arguments of the module's ``connect``.
    :param opened: called with each new connection, in a thread.
    :param secrets: what must not come into a log, beside the arguments that are called passwords or the like.
    :raises ValueError: where the module is missing, or the query makes no sense.
    """

    def __init__(
        self,
        module: str,
        query: str,
        *,
        reactor: Any,
        pool: ThreadPool,
        connection: Mapping[str, Any] | None = None,
        opened: Callable[[Any], object] | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        connection = connection or {}
        self._secrets = [str(value) for key, value in connection.items() if value and _SECRET.search(key)]
        self._secrets += filter(None, secrets)
        try:
            self._connections = _Connections(module, cp_reactor=reactor, cp_openfun=opened, **connection)
        except ImportError as error:
            raise ValueError(f"its module cannot be imported: {error}")
        self._query = Query(query, self._connections.dbapi.paramstyle)
        self._reactor = reactor
        self._lookups = Lookups(reactor, pool, MOST_QUERIES)
        # What the log was last told that is wrong, and when.
        self._said: tuple[str, float] = "", 0.0

    def entryOf(self, address: Address) -> Deferred[DirectoryEntry | None]:
        """See :class:`~lmtp_twisted.interfaces.IRecipientDirectory`."""
        asked = self._lookups.run(self._connections.run, partial(self._look_up, address))
        return asked.addErrback(self._failed)

    def _look_up(self, address: Address, connection: Any) -> DirectoryEntry | None:
        """In a thread."""
        cursor = connection.cursor()
        try:
            cursor.execute(self._query.text, self._query.parameters(address))
            rows = cursor.fetchmany(2)
            names = [column[0].lower() for column in cursor.description]
        finally:
            cursor.close()
        # Looked at even where nobody was found, so that a mistake in the query shows at once.
        for name in names:
            # The column of a constant has a name that is none.
            if name not in _COLUMNS and name.isidentifier():
                raise ValueError(f"the query gives a column {name!r}, and not only {', '.join(_COLUMNS)}")
        if len(rows) > 1:
            raise ValueError("the query gives several rows for one recipient")
        if not rows:
            return None
        row = {name: _text(value) for name, value in zip(names, rows[0], strict=True)}
        return DirectoryEntry(row.get("mailbox"), row.get("quota"), row.get("backend"))

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return failure  # type: ignore[return-value]  # it goes on as a failure
        words = " ".join(f"{type(failure.value).__name__}: {failure.value}".split())
        for secret in self._secrets:
            words = words.replace(secret, "...")
        now = self._reactor.seconds()
        if words != self._said[0] or now - self._said[1] >= QUIET:
            self._said = words, now
            _log.error("the directory cannot tell: {words}", words=words)
        raise directory_not_available()

    def shut_down(self) -> None:
        """Close what is open."""
        self._connections.close_all()


def _text(value: Any) -> str | None:
    if isinstance(value, (bytes, memoryview)):
        value = bytes(value).decode()
    return None if value is None else str(value).strip() or None
