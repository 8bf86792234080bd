"""``TYPE:ARGUMENT[,key=value…]``"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, globalLogPublisher

from lmtp_twisted.backends.description import (
    YES_OR_NO,
    choose,
    find_plugins,
    help_text,
    parse_description,
    refuse_argument,
    without_passwords,
)
from lmtp_twisted.backends.plugin import BackendPlugin

PLUGINS = {
    plugin.backendType: plugin
    for plugin in (
        BackendPlugin("maildir", "Stores.", "m.f", "DIRECTORY", {"create": "whether", "fsync": "how"}),
        BackendPlugin("null", "Forgets.", "n.f"),
        BackendPlugin("http", "Posts.", "h.f", "URL", {"timeout": "seconds"}),
    )
}


def parsed(description: str) -> tuple[str, str, dict[str, str]]:
    result = parse_description(description, PLUGINS)
    return result.plugin.backendType, result.argument, dict(result.options)


@pytest.mark.parametrize(
    ("description", "meaning"),
    [
        ("null:", ("null", "", {})),
        ("maildir:/srv/mail", ("maildir", "/srv/mail", {})),
        ("maildir:/srv/mail,create=no", ("maildir", "/srv/mail", {"create": "no"})),
        ("maildir:/srv,create=no,fsync=yes", ("maildir", "/srv", {"create": "no", "fsync": "yes"})),
        ("maildir:,create=no", ("maildir", "", {"create": "no"})),
        ("maildir:create=no", ("maildir", "create=no", {})),
        ("maildir:/srv,create=", ("maildir", "/srv", {"create": ""})),
        ("maildir:/srv,create=a=b", ("maildir", "/srv", {"create": "a=b"})),
        # Keys that the type does not declare belong to the argument, and so does all before them.
        ("maildir:/srv,owner=x", ("maildir", "/srv,owner=x", {})),
        ("maildir:/srv,owner=x,create=no", ("maildir", "/srv,owner=x", {"create": "no"})),
        ("maildir:/srv,create=no,owner=x", ("maildir", "/srv,create=no,owner=x", {})),
        ("maildir:/srv,create", ("maildir", "/srv,create", {})),
        ("maildir:/srv, create=no", ("maildir", "/srv, create=no", {})),
        ("maildir:/a,b", ("maildir", "/a,b", {})),
        # Only the first colon counts.
        (
            "http:https://app.example:8/mail?a=1,b=2,timeout=30",
            ("http", "https://app.example:8/mail?a=1,b=2", {"timeout": "30"}),
        ),
    ],
)
def test_a_description_is_a_type_an_argument_and_options(description: str, meaning: object) -> None:
    assert parsed(description) == meaning


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("maildir:/srv,create=no,create=yes", "'maildir:/srv,create=no,create=yes' gives create twice"),
        ("maildir", "'maildir' lacks a colon: write maildir:DIRECTORY"),
        ("null", "'null' lacks a colon: write null:"),
        ("maildri:/srv", "did you mean maildir:DIRECTORY?"),
        ("Null:", "did you mean null:?"),
        ("/srv/mail", "did you mean maildir:/srv/mail?"),
        ("./mail", "did you mean maildir:./mail?"),
        ("", "'' names no known backend (TYPE:ARGUMENT; the types are http, maildir, null)"),
        (":x", "the types are http, maildir, null"),
        ("carrier-pigeon:x", "the types are http, maildir, null"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_how_it_is_right(description: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        parse_description(description, PLUGINS)
    assert reason in str(refused.value)


def test_without_any_backend_none_is_suggested() -> None:
    with pytest.raises(
        ValueError, match=r"^'/srv' names no known backend \(TYPE:ARGUMENT; the types are none at all\)$"
    ):
        parse_description("/srv", {})


@given(
    st.text(alphabet="ab,=:/create", max_size=30).filter(lambda text: "create=" not in text),
    st.lists(st.sampled_from(["create", "fsync"]), unique=True),
)
def test_options_come_off_the_end_and_nothing_is_lost(argument: str, keys: list[str]) -> None:
    _, rest, options = parsed(f"maildir:{argument}" + "".join(f",{key}=v" for key in keys))
    assert rest == argument
    assert options == dict.fromkeys(keys, "v")


# Finding


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class Careless:
    """Says that it is a plugin."""

    backendType = "careless"


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (Careless(), "it lacks description, argumentHelp, options, fromDescription"),
        (BackendPlugin("no word", "", "a.b"), "its type is 'no word'"),
        (BackendPlugin("", "", "a.b"), "its type is ''"),
        (BackendPlugin("a:b", "", "a.b"), "its type is 'a:b'"),
    ],
)
def test_what_is_no_plugin_is_logged_and_left_out(plugin: Any, reason: str, logged: list[LogEvent]) -> None:
    assert find_plugins([plugin, PLUGINS["null"]]) == {"null": PLUGINS["null"]}
    assert [event["why"] for event in logged] == [reason]


def test_the_same_plugin_found_twice_is_one() -> None:
    assert find_plugins([PLUGINS["null"], PLUGINS["null"]]) == {"null": PLUGINS["null"]}


def test_two_of_one_type_are_refused_by_name() -> None:
    class Other:
        backendType = "null"
        description = argumentHelp = ""
        options: dict[str, str] = {}  # noqa: RUF012  # as a plugin may have it

        def fromDescription(self, context: object, argument: str) -> None:
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"^two backends are called 'null': n\.f and .*Other$"):
        find_plugins([PLUGINS["null"], Other()])


# Helpers for backends


def test_a_backend_without_an_argument_refuses_one() -> None:
    refuse_argument("")
    with pytest.raises(ValueError, match=r"^it takes no argument, but was given 'x'$"):
        refuse_argument("x")


def test_an_option_in_the_place_of_the_argument_is_explained() -> None:
    with pytest.raises(ValueError, match="options follow a comma, as in TYPE:,keep=5"):
        refuse_argument("keep=5")


def test_an_option_is_one_of_a_few_words() -> None:
    assert choose("create", "no", YES_OR_NO) is False
    with pytest.raises(ValueError, match=r"^create is yes or no, not 'No'$"):
        choose("create", "No", YES_OR_NO)


# Help


def test_help_tells_of_all_types_with_their_arguments_and_options() -> None:
    assert help_text(PLUGINS) == (
        "A backend is described as TYPE:ARGUMENT[,key=value...].\n"
        "\n"
        "http:URL\n"
        "    Posts.\n"
        "      ,timeout=  seconds\n"
        "\n"
        "maildir:DIRECTORY\n"
        "    Stores.\n"
        "      ,create=  whether\n"
        "      ,fsync=  how\n"
        "\n"
        "null:\n"
        "    Forgets.\n"
    )


def test_help_lines_are_not_too_long() -> None:
    plugin = BackendPlugin("x", "word " * 60, "a.b", "", {"key": "text " * 60})
    assert max(len(line) for line in help_text({"x": plugin}).splitlines()) <= 100


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("amqp:amqp://user:se:cr@t@host/vhost", "amqp:amqp://user:...@host/vhost"),
        ("http:https://:secret@host/,timeout=5", "http:https://:...@host/,timeout=5"),
        ("http:https://token@host:8080/a:b@c", "http:https://...@host:8080/a:b@c"),
        ("http:https://host/hook?key=secret,per=message", "http:https://host/hook?...,per=message"),
        ("http:https://user:se?cret@host/?key=secret", "http:https://user:...@host/?..."),
        ("http:https://host/a@b", "http:https://host/a@b"),
        ("maildir:/srv/a:b@c", "maildir:/srv/a:b@c"),
    ],
)
def test_passwords_in_urls_are_left_out(description: str, said: str) -> None:
    assert without_passwords(description) == said


@pytest.mark.parametrize(
    "description", ["null:https://user:secret@host,key=1,key=2", "https://user:secret@host", "https://host/?k=secret"]
)
def test_what_is_wrong_with_a_description_is_said_without_its_passwords(description: str) -> None:
    plugins = {"null": BackendPlugin("null", "", "", options={"key": ""})}
    with pytest.raises(ValueError, match=r"gives key twice|names no known backend") as caught:
        parse_description(description, plugins)
    assert "secret" not in str(caught.value)
