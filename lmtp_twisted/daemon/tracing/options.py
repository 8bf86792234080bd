"""What ``--trace`` and the options that belong to it ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lmtp_twisted.daemon.said import Fault, Said
from lmtp_twisted.daemon.tracing.choice import DEFAULT, Choice
from lmtp_twisted.daemon.tracing.dialogue import Tracer
from lmtp_twisted.daemon.tracing.files import TraceFiles, check_directory


def tracer_of(said: Said, reactor: Any, pool: Any, as_later: Callable[[Callable[[], Any]], Any]) -> Tracer | None:
    """
    :param said: the options.
    :param reactor: the reactor.
    :param pool: whose threads write.
    :param as_later: looks at the disk as the user that the server will be.
    :returns: what traces sessions, if somebody asked for it.
    :raises ValueError: with one line that says what is wrong.
    """
    if said["trace"] is None:
        if said["trace-for"]:
            raise said.fault("trace-for", f" needs {said.place('trace-for').calls('trace')}")
        return None
    for index, text in enumerate(said["trace-for"]):
        with said.blamed("trace-for", index):
            Choice.of([text])
    directory = os.path.abspath(said["trace"])
    try:
        as_later(lambda: check_directory(directory))
    except OSError as error:
        raise Fault(said.place("trace").saying(directory), f": {error.strerror}")
    files = TraceFiles(directory, said["trace-size"], reactor, pool)
    return Tracer(Choice.of(said["trace-for"] or DEFAULT), files, reactor, said["trace-content"])
