"""
``twistd lmtp``: the server as a program, with its command line, its log and its shut-down.

Imported by ``twistd`` only once the subcommand was chosen; nothing here imports a reactor before :func:`makeService`.
"""

from __future__ import annotations

from twisted.application.service import IService

from lmtp_twisted.daemon.options import Options

__all__ = ["Options", "makeService"]


def makeService(options: Options) -> IService:  # the name that ServiceMaker asks for
    """
    What ``twistd`` calls with the parsed command line, before it becomes a daemon.

    :param options: an :class:`~lmtp_twisted.daemon.options.Options`.
    :returns: the server, not started.
    :raises SystemExit: with one line for standard error, where the server could not start as it was told.
    """
    from lmtp_twisted.daemon.assembly import assemble

    return assemble(options)
