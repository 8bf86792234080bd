"""``lmtp:ENDPOINT[,ENDPOINT…]`` and its options."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import YES_OR_NO, choose
from lmtp_twisted.backends.relay.backend import RelayBackend
from lmtp_twisted.client import ClientSettings, ClientTLS, External, Password, Security, Timeouts, Token
from lmtp_twisted.wire.content import BareNewlines

N = TypeVar("N", int, float)

_NEWLINES = {one.value: one for one in BareNewlines}
_SEPARATOR = re.compile(r"[!-,.:-?\[\]-`{-~-]*")

_FILES = frozenset({"ca", "certificate", "password_file", "token_file"})


def from_description(context: BackendContext, argument: str, **options: str) -> RelayBackend:
    """``lmtp:ENDPOINT[,ENDPOINT…]``"""
    options = {key: context.path(value) if key in _FILES else value for key, value in options.items()}
    endpoints = [part.strip() for part in argument.split(",")]
    if not all(endpoints):
        raise ValueError(f"it needs ENDPOINT[,ENDPOINT…], such as tcp:store1.example:24, not {argument!r}")
    for endpoint in endpoints:
        if re.fullmatch("[a-z_]+=.*", endpoint):
            raise ValueError(f"there is no option {endpoint.partition('=')[0]!r}")
    separator = options.get("separator", "+")
    if not _SEPARATOR.fullmatch(separator):
        raise ValueError(f"separator is punctuation such as +, not {separator!r}")
    backend = RelayBackend(
        endpoints,
        hostname=context.hostname,
        settings=_settings(context.hostname, options),
        separator=separator,
        folds_case=choose("case", options.get("case", "fold"), {"fold": True, "keep": False}),
        streams=_switch(options, "stream", "yes"),
        forwards=_switch(options, "xforward", "yes"),
        reactor=context.reactor,
    )
    context.add_shutdown(backend.close)
    return backend


def _settings(hostname: str, options: dict[str, str]) -> ClientSettings:
    times: dict[str, float] = {}
    if "timeout" in options:
        seconds = _number("timeout", options["timeout"], float)
        times = dict.fromkeys(("greeting", "command", "data", "block", "final"), seconds)
    if "connect_timeout" in options:
        times["connect"] = _number("connect_timeout", options["connect_timeout"], float)
    numbers: dict[str, Any] = {}
    if "connections" in options:
        numbers["max_connections"] = _number("connections", options["connections"], int)
    if "retry" in options:
        numbers["retry_most"] = _number("retry", options["retry"], float)
    return ClientSettings(
        hostname=hostname,
        security=choose("tls", options.get("tls", "auto"), {one.value: one for one in Security}),
        tls=ClientTLS(
            verifies=_switch(options, "verify", "yes"),
            authorities=_file(options, "ca"),
            server_name=options.get("server_name"),
            certificate=_file(options, "certificate"),
        ),
        credentials=_credentials(options),
        allows_plaintext=_switch(options, "plaintext", "no"),
        bare_newlines=choose("bare_newlines", options.get("bare_newlines", "normalise"), _NEWLINES),
        uses_chunking=_switch(options, "chunking", "yes"),
        timeouts=Timeouts(**times),
        **numbers,
    )


def _switch(options: dict[str, str], key: str, default: str) -> bool:
    chosen: bool = choose(key, options.get(key, default), YES_OR_NO)
    return chosen


def _number(key: str, text: str, kind: Callable[[str], N]) -> N:
    try:
        number = kind(text)
        if not 0 < number < 1e6:
            raise ValueError
    except ValueError:
        raise ValueError(f"{key} is a number above zero, not {text!r}")
    return number


def _file(options: dict[str, str], key: str) -> bytes | None:
    return Path(options[key]).read_bytes() if key in options else None


def _credentials(options: dict[str, str]) -> Password | Token | External | None:
    if "password_file" in options and "token_file" in options:
        raise ValueError("give just one of password_file and token_file")
    for key, kind in (("password_file", Password), ("token_file", Token)):
        if key in options:
            if "user" not in options:
                raise ValueError(f"{key} needs user")
            first, *_ = Path(options[key]).read_text("utf-8").splitlines() or [""]
            return kind(options["user"], first)
    if "user" in options:
        if "certificate" not in options:
            raise ValueError("user needs password_file, token_file or certificate")
        return External(options["user"])
    return None
