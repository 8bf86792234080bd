"""What a parent tells a worker to serve, and how a worker reads it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.python.reflect import qual

from lmtp_twisted.daemon.generation import Generation
from lmtp_twisted.daemon.given import Given, PemContents
from lmtp_twisted.daemon.workers.ports import HeldPorts, LentPort
from lmtp_twisted.daemon.workers.worker import Orders


def orders_of(reactor: Any, generation: Generation, ports: HeldPorts, number: int, size: int) -> Orders:
    """
    :param generation: what is served.
    :param ports: the ports.
    :param number: which generation it is.
    :param size: how many workers there are.
    """
    options = generation.options
    lent = ports.lend({entrance.description.key for entrance in generation.entrances})
    message = {
        "reactor": type(reactor).__module__,
        "twistd": _of_twistd(options.parent),
        "arguments": list(options.arguments),
        "size": size,
        "generation": number,
        "file": options.file,
        "text": None if options.configuration is None else options.configuration.text,
        "pems": [
            {
                "files": [one.files.certificate, one.files.key, one.files.client_ca],
                "signature": one.contents.signature,
                "octets": {path: octets.decode("latin-1") for path, octets in one.contents.octets.items()},
            }
            for one in generation.certificates
        ],
        "ports": [[port.key, port.stays] for port in lent],
    }
    return Orders(message, [port.descriptor for port in lent])


def _of_twistd(parent: Any) -> list[str]:
    """Those of twistd's own options that say where its log goes. The others hold for workers because they do for us."""
    if parent is None or "logfile" not in parent:
        return []
    path, logger = parent["logfile"], parent.get("logger")
    if not (path or parent.get("nodaemon")):
        path = "twistd.log"
    flags = [f"--logfile={os.path.abspath(path) if path != '-' else path}"] if path else []
    if logger is not None:
        flags.append(f"--logger={qual(logger)}")
    if parent.get("syslog"):
        flags += ["--syslog", f"--prefix={parent['prefix']}"]
    return flags


def fill(given: Given, orders: dict[str, Any]) -> None:
    """
    :param given: what a worker has, which is changed to what the orders say.
    :param orders: the message of :func:`orders_of`.
    """
    given.file, given.text, given.generation = orders["file"], orders["text"], orders["generation"]
    given.pems = {
        tuple(one["files"]): PemContents(
            one["signature"], {path: octets.encode("latin-1") for path, octets in one["octets"].items()}
        )
        for one in orders["pems"]
    }


def ports_of(orders: dict[str, Any], descriptors: Sequence[int]) -> list[LentPort]:
    """The ports that came with orders."""
    return [LentPort(key, stays, at) for (key, stays), at in zip(orders["ports"], descriptors, strict=True)]
