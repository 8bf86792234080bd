"""The line of text that names a directory: ``TYPE:ARGUMENT``, where the type is a kind of file or of database."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import attrs
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.directories.cache import CachedDirectory
from lmtp_twisted.directories.database import DatabaseDirectory
from lmtp_twisted.directories.file import FileDirectory

#: What each type is, for help.
TYPES = {
    "file:PATH": "lines of address:mailbox:backend:quota",
    "sqlite:PATH": "a database of SQLite",
    "postgresql:CONNINFO": "a database of PostgreSQL, as libpq's connection strings name it",
    "dbapi:MODULE:PATH": "any database with a module of the DB-API; the file has the arguments of connect() in JSON",
}

# So that a server that has gone is found out, and nobody waits for a query that it will not answer. The operator's own
# come first.
_POSTGRESQL = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": "lmtp-twisted",
    "options": "-c statement_timeout=10s -c default_transaction_read_only=on",
}


@attrs.frozen
class DirectorySettings:
    """
    How a directory is asked.

    :ivar reactor: takes the answers.
    :ivar pool: where the threads come from.
    :ivar query: of a database, see :class:`~lmtp_twisted.directories.database.Query`.
    :ivar max_age: seconds for which an answer of a database holds.
    :ivar timeout: seconds after which an answer is not waited for any longer.
    :ivar add_shutdown: takes a function to call in the end.
    """

    reactor: Any
    pool: ThreadPool
    query: str | None
    max_age: float
    timeout: float
    add_shutdown: Callable[[Callable[[], Any]], None]


def below_directory(description: str, directory: str) -> str:
    """
    :param description: as for :func:`make_directory`.
    :param directory: of the file system, where a relative path in it begins.
    :returns: the description with an absolute path, where its type has one.
    """
    kind, _, argument = description.partition(":")
    if kind in ("file", "sqlite") and argument:
        return f"{kind}:{os.path.join(directory, argument)}"
    module, colon, path = argument.partition(":")
    return f"dbapi:{module}:{os.path.join(directory, path)}" if kind == "dbapi" and colon and path else description


def make_directory(description: str, settings: DirectorySettings) -> Any:
    """
    :param description: such as ``file:/etc/lmtp/recipients``.
    :param settings: how it is asked.
    :returns: an :class:`~lmtp_twisted.interfaces.IRecipientDirectory`.
    :raises ValueError: with one line that says what is wrong.
    """
    kind, colon, argument = description.partition(":")
    if not colon or kind not in ("file", *_DATABASES):
        # Not the description itself, which may hold a password.
        raise ValueError(f"it is one of {', '.join(TYPES)}")
    if not argument:
        raise ValueError(f"{kind}: something has to follow the colon")
    if kind == "file":
        if settings.query is not None:
            raise ValueError("file: a query is for databases")
        return FileDirectory(argument, settings.reactor, settings.pool)
    if settings.query is None:
        raise ValueError(f"{kind}: a database needs --directory-query")
    try:
        database = _DATABASES[kind](argument, settings, settings.query)
    except ValueError as error:
        raise ValueError(f"{kind}: {error}")
    settings.add_shutdown(database.shut_down)
    return CachedDirectory(database, settings.reactor, settings.max_age, settings.timeout)


def _sqlite(path: str, settings: DirectorySettings, query: str) -> DatabaseDirectory:
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path!r}")
    # A file that is missing later is not to be made.
    uri = f"file:{quote(os.path.abspath(path))}?mode=rw"
    return DatabaseDirectory(
        "sqlite3",
        query,
        reactor=settings.reactor,
        pool=settings.pool,
        # In the end another thread closes them.
        connection={"database": uri, "uri": True, "check_same_thread": False},
        opened=lambda connection: connection.execute("PRAGMA query_only = 1"),
    )


def _postgresql(conninfo: str, settings: DirectorySettings, query: str) -> DatabaseDirectory:
    try:
        from psycopg import Error
        from psycopg.conninfo import conninfo_to_dict, make_conninfo
    except ImportError as error:
        raise ValueError(f"it needs psycopg: pip install 'lmtp-twisted[postgresql]' ({error})")
    try:
        # Also as a URL, whose scheme is our type.
        given = conninfo_to_dict(f"postgresql:{conninfo}" if conninfo.startswith("//") else conninfo)
    except Error:
        # What it says may hold a part of a password.
        raise ValueError("not a connection string of libpq")
    if "password" in given:
        raise ValueError("a password on the command line is everybody's to see: use passfile=FILE, or PGPASSWORD")
    return DatabaseDirectory(
        "psycopg",
        query,
        reactor=settings.reactor,
        pool=settings.pool,
        connection={"conninfo": make_conninfo("", **{**_POSTGRESQL, **given}), "autocommit": True},
        secrets=[os.environ.get("PGPASSWORD", "")],
    )


def _dbapi(argument: str, settings: DirectorySettings, query: str) -> DatabaseDirectory:
    module, _, path = argument.partition(":")
    if not (module and path):
        raise ValueError("it is dbapi:MODULE:PATH")
    try:
        with open(path, encoding="utf-8") as file:
            connection = json.load(file)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}")
    except ValueError:
        # What it says may hold a part of a password.
        raise ValueError(f"{path}: not JSON")
    if not isinstance(connection, dict):
        raise ValueError(f"{path}: not an object of JSON, with the arguments of connect()")
    return DatabaseDirectory(module, query, reactor=settings.reactor, pool=settings.pool, connection=connection)


_DATABASES: dict[str, Callable[[str, DirectorySettings, str], DatabaseDirectory]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "dbapi": _dbapi,
}
