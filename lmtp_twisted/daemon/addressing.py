"""Who the recipients are and where their mail goes, as the command line has it."""

from __future__ import annotations

from typing import Any

from lmtp_twisted.aliases import Aliases
from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.directories.description import DirectorySettings, make_directory
from lmtp_twisted.interfaces import ILMTPDeliveryFactory
from lmtp_twisted.recipients import Resolver
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.routing import Router
from lmtp_twisted.watched import WatchedFile


def destination(options: Any, context: BackendContext, default: str) -> ILMTPDeliveryFactory:
    """
    :param options: the parsed command line.
    :param context: makes backends.
    :param default: the description of the backend where nobody said which.
    :returns: the backend alone where nothing more was asked for; else it is behind routes, and these behind the aliases
        and the directory.
    :raises ValueError: with one line that says which option is wrong, and what.
    """
    backend = _build(context, "--backend", default if options["backend"] is None else options["backend"])
    routes = [(pattern, _build(context, f"--route {pattern}", text)) for pattern, text in options["route"]]
    named = {
        name: _build(context, f"--directory-backend {name}", text)
        for name, text in options["directory-backend"].items()
    }
    if routes or options["directory"] is not None:
        try:
            backend = Router(routes, backend, named)
        except ValueError as error:
            raise ValueError(f"--route: {error}")
    resolver = resolver_of(options, context)
    return backend if resolver is None else Resolving(resolver, backend)


def resolver_of(options: Any, context: BackendContext) -> Resolver | None:
    """
    :param options: the parsed command line.
    :param context: for what reads files and asks databases.
    :returns: ``None`` where recipients are who they say.
    :raises ValueError: with one line that says which option is wrong, and what.
    """
    if options["directory"] is None:
        for option in ("directory-query", "directory-for", "directory-backend"):
            if options[option]:
                raise ValueError(f"--{option} needs --directory")
        if options["aliases"] is None and options["subaddress"] == "keep":
            return None
    aliases = directory = None
    if options["aliases"] is not None:
        try:
            aliases = WatchedFile(options["aliases"], Aliases.parse, context.reactor, context.pool)
        except ValueError as error:
            raise ValueError(f"--aliases: {error}")
    if options["directory"] is not None:
        settings = DirectorySettings(
            reactor=context.reactor,
            pool=context.pool,
            query=options["directory-query"],
            max_age=options["directory-max-age"],
            timeout=options["directory-timeout"],
            add_shutdown=context.add_shutdown,
        )
        try:
            directory = make_directory(options["directory"], settings)
        except ValueError as error:
            raise ValueError(f"--directory: {error}")
    try:
        return Resolver(
            aliases=aliases,
            directory=directory,
            covers=options["directory-for"],
            separator=options["separator"],
            keep_detail=options["subaddress"] == "keep",
            hostname=context.hostname,
        )
    except ValueError as error:
        raise ValueError(f"--directory-for: {error}")


def _build(context: BackendContext, option: str, description: str) -> ILMTPDeliveryFactory:
    try:
        return context.build(description)
    except ValueError as error:
        raise ValueError(f"{option}: {error}")
