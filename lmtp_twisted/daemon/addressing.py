"""Who the recipients are, as the options have it: the aliases, the directory, and what becomes of details."""

from __future__ import annotations

from lmtp_twisted.aliases import Aliases
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.daemon.said import Said
from lmtp_twisted.directories.description import DirectorySettings, make_directory
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.watched import WatchedFile

#: The options that it is made of.
OF_RESOLVER = (
    "aliases",
    "subaddress",
    "separator",
    "directory",
    "directory-query",
    "directory-for",
    "directory-max-age",
    "directory-timeout",
)


def resolver_of(said: Said, context: BackendContext) -> Resolver | None:
    """
    :param said: the options.
    :param context: of the backends, which have its reactor and threads.
    :returns: ``None`` where recipients are as they come.
    :raises ValueError: with one line that says which option is wrong, and what.
    """
    if said["directory"] is None:
        for option in ("directory-query", "directory-for", "directory-backend"):
            if said[option]:
                raise said.fault(option, f" needs {said.place(option).calls('directory')}")
        if said["aliases"] is None and said["subaddress"] == "keep":
            return None
    aliases = directory = None
    if said["aliases"] is not None:
        with said.blamed("aliases"):
            aliases = WatchedFile(said["aliases"], Aliases.parse, context.reactor, context.pool)
    if said["directory"] is not None:
        settings = DirectorySettings(
            reactor=context.reactor,
            pool=context.pool,
            query=said["directory-query"],
            max_age=said["directory-max-age"],
            timeout=said["directory-timeout"],
            add_shutdown=context.add_shutdown,
        )
        with said.blamed("directory"):
            directory = make_directory(said["directory"], settings)
    with said.blamed("directory-for"):
        return Resolver(
            aliases=aliases,
            directory=directory,
            covers=said["directory-for"],
            separator=said["separator"],
            keep_detail=said["subaddress"] == "keep",
            hostname=context.hostname,
        )
