"""docs/aiosmtpd.rst: what the real aiosmtpd and ours speak, and tables that name all that aiosmtpd has."""

from __future__ import annotations

import inspect
import re
import tempfile
from pathlib import Path
from types import ModuleType

import attrs
import pytest
from docs_smtp_server import AIOSMTPD, AIOSMTPD_PAGE, OURS, Example, examples, served, speak

import lmtp_twisted

pytest.importorskip("aiosmtpd", reason="it is in the extra bench")

EXAMPLES = examples(AIOSMTPD_PAGE, AIOSMTPD)


@pytest.mark.parametrize("example", [pytest.param(example, id=str(example)) for example in EXAMPLES])
def test_a_server_of_the_page_speaks_as_the_page_says(example: Example) -> None:
    """Theirs and ours, over real sockets."""
    with tempfile.TemporaryDirectory(prefix="docs-") as directory, served(example, Path(directory)) as port:
        speak(example.dialogue, port)


def test_both_speak() -> None:
    """Else the test above would have compared nothing."""
    assert {example.speaker for example in EXAMPLES} == {AIOSMTPD, OURS}


def literals() -> set[str]:
    """The words of the page that are set as code."""
    text = " ".join(AIOSMTPD_PAGE.read_text(encoding="utf-8").split())
    return {word for literal in re.findall(r"``([^`]+)``", text) for word in re.findall(r"[\w-]+", literal)}


def parameters_of(function: object) -> set[str]:
    """The names of its own parameters."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]  # a function or a class
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {parameter.name for parameter in parameters if parameter.kind not in variable} - {"self"}


def public_names(module: ModuleType) -> set[str]:
    """What it exports, with the public methods and parameters of its classes."""
    names = set(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            names |= {member for member, of in vars(value).items() if member[:1] != "_" and not isinstance(of, set)}
            names |= parameters_of(value)
    return names


def hooks() -> set[str]:
    """Whatever aiosmtpd looks for on a handler."""
    from aiosmtpd import smtp

    source = inspect.getsource(smtp)
    called = re.findall(r"_call_handler_hook\(\s*[\"'](\w+)[\"']", source)
    others = re.findall(r"event_handler, [\"'](\w+)[\"']", source)
    return {f"handle_{name}" for name in called} | set(others)


def test_the_hooks_stand_in_a_table() -> None:
    """All of them; a new one of a new aiosmtpd fails here."""
    assert {"handle_DATA", "handle_PROXY", "handle_exception", "process_message"} <= hooks()
    assert hooks() - literals() == set()


def test_the_parameters_stand_in_a_table() -> None:
    """Of SMTP, and of the controllers."""
    from aiosmtpd import controller, smtp

    assert parameters_of(smtp.SMTP) - literals() == set()
    assert public_names(controller) - literals() == set()


def test_what_sessions_and_envelopes_hold_stands_in_a_table() -> None:
    """Their attributes, and what else is public."""
    import asyncio

    from aiosmtpd import smtp

    loop = asyncio.new_event_loop()
    try:
        session = smtp.Session(loop)
    finally:
        loop.close()
    held = {*vars(session), *vars(smtp.Envelope()), *vars(smtp.Session), *vars(smtp.Envelope)}
    assert {name for name in held if not name.startswith("_")} - literals() == set()


def test_the_handlers_stand_in_a_table() -> None:
    """Those that come with it."""
    from aiosmtpd import handlers

    assert set(handlers.__all__) - literals() == set()


def test_the_options_stand_in_a_table() -> None:
    """Of its command line."""
    from aiosmtpd import main

    options = {option for action in main._parser()._actions for option in action.option_strings if option[:2] == "--"}
    assert {option.lstrip("-") for option in options} - {word.lstrip("-") for word in literals()} == set()


def test_our_settings_that_the_page_names_are_there() -> None:
    """And are what its tables say."""
    fields = {field.name for field in attrs.fields(lmtp_twisted.Settings)}
    named = {"size_limit", "hostname", "banner", "idle_timeout", "delivery_timeout", "auth_required", "auth_insecure"}
    named |= {"max_commands", "max_bad_commands", "disabled"}
    assert named <= fields & literals()
    page = AIOSMTPD_PAGE.read_text(encoding="utf-8")
    settings = lmtp_twisted.Settings()
    assert f"``size_limit`` ({settings.size_limit // 1024 // 1024} MiB)" in page
    assert f"``idle_timeout`` ({settings.idle_timeout:.0f} s)" in page
