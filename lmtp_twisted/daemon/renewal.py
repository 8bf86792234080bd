"""What a reload makes: another generation, of the same command line and of what its files say now."""

from __future__ import annotations

from twisted.logger import Logger

from lmtp_twisted.daemon.generation import Generation
from lmtp_twisted.daemon.making import Surroundings, make_generation
from lmtp_twisted.daemon.options import Options
from lmtp_twisted.daemon.said import Faults
from lmtp_twisted.daemon.servers import servers_of
from lmtp_twisted.daemon.values import OPTIONS

_log = Logger(namespace="lmtp_twisted")

#: Options that count when the server starts, and then no more.
AT_THE_START = ("log-format", "workers")


def renew(surroundings: Surroundings, before: Generation) -> Generation:
    """
    :param surroundings: what stays.
    :param before: the generation before.
    :returns: the next one, which is not in use yet.
    :raises Faults: with a line for each fault; then there is nothing of it.
    """
    faults = Faults()
    with faults.caught():
        options = before.options.anew()
        servers = servers_of(options.said, options.listeners, faults)
        generation = make_generation(options, servers, surroundings, faults, before)
        changed = changes(before.options, options)
        for key in AT_THE_START:
            if key in changed:
                changed.remove(key)
                _log.warn("{key} stays as it was until the server starts anew", key=key)
        generation.facts = [
            *generation.facts[1:],
            f"reloaded, certificates read: {len(generation.certificates)}, "
            f"changed: {', '.join(changed) or 'nothing that the configuration says'}",
        ]
        return generation
    raise faults


def changes(before: Options, after: Options) -> list[str]:
    """
    What differs, by its names: values may be more than a log should have.

    :param before: the options of before.
    :param after: those of now.
    """
    names = [key for key in OPTIONS if before.said[key] != after.said[key]]
    for table, old, new in (
        ("backends", _backends(before), _backends(after)),
        ("listeners", _listeners(before), _listeners(after)),
    ):
        names += [f"{table}.{name}" for name in {**old, **new} if old.get(name) != new.get(name)]
    return names


def _backends(options: Options) -> dict[str, object]:
    named = {} if options.configuration is None else options.configuration.backends
    return {name: (one.description, one.kind, one.argument, one.options) for name, one in named.items()}


def _listeners(options: Options) -> dict[str, object]:
    return {name: said.values for name, said in options.listeners.items()}
