"""Whether a scenario can be played at all: what the server announces, and what the user said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lmtp_twisted.conformance.scenario import Need, Scenario
from lmtp_twisted.conformance.session import Server
from lmtp_twisted.conformance.settings import Settings

#: By option: what the user has to say so that it is there.
CHECKS: Mapping[str, tuple[str, Callable[[Settings], bool]]] = {
    "unknown": ("--unknown-recipient", lambda settings: settings.unknown is not None),
    "auth": ("--user and --password", lambda settings: settings.user is not None and settings.password is not None),
    "token": ("--user and --token", lambda settings: settings.user is not None and settings.token is not None),
    "auth-required": ("--auth-required", lambda settings: settings.auth_required),
    "client-certificate": ("--certificate", lambda settings: settings.certificate is not None),
    "untrusted": ("--untrusted", lambda settings: settings.is_untrusted),
    "proxy": ("--proxy", lambda settings: bool(settings.proxy)),
    "greeting-delay": ("--greeting-delay", lambda settings: settings.greeting_delay),
    "idle": ("--idle", lambda settings: settings.idle is not None),
    "tls": ("--tls or --starttls", lambda settings: settings.tls != "none"),
    "authenticated": ("--authenticate", lambda settings: settings.authenticates),
}


def what_is_missing(scenario: Scenario, server: Server, settings: Settings) -> str:
    """
    :returns: why the scenario is absent, in a few words; empty where it is not.
    """
    return next(filter(None, (_missing(need, server, settings) for need in scenario.needs)), "")


def _missing(need: Need, server: Server, settings: Settings) -> str:
    if need.name.islower():
        return _missing_option(need, server, settings)
    words = server.capabilities.get(need.name)
    is_there = words is not None and (need.value is None or need.value.upper() in map(str.upper, words))
    label = f"{need.name} {need.value}" if need.value else need.name
    if is_there == need.is_unwanted:
        return f"{label} is announced" if is_there else f"{label} is not announced"
    if need.name == "AUTH" and need.value and not need.is_unwanted and need.value not in settings.mechanisms:
        return f"--mechanism leaves {need.value} out"
    return ""


def _missing_option(need: Need, server: Server, settings: Settings) -> str:
    if need.name == "recipients":
        wanted = int(need.value or 1)
        return "" if len(settings.recipients) >= wanted else f"--recipient was given less than {wanted} times"
    if need.name in ("size", "rcptmax"):
        limit = server.numbers.get(need.name)
        if limit is None:
            return f"no limit is announced ({need.name})"
        # Most scenarios send as much as the limit once, some several times.
        octets = limit * int(need.value or 1)
        most = settings.largest if need.name == "size" else 2000
        return "" if octets <= most else f"the limit is too high to be tried ({need.name}={limit})"
    if need.name == "proxy" and need.value and int(need.value) not in settings.proxy:
        return f"without --proxy {need.value}"
    option, is_there = CHECKS[need.name]
    if is_there(settings) == need.is_unwanted:
        return f"{option} was given" if need.is_unwanted else f"without {option}"
    return ""
