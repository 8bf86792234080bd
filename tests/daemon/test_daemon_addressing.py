"""Options for routes, aliases and the directory: what they make, and what is said of those that are wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.python.threadpool import ThreadPool

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.memory import MemoryBackend
from lmtp_twisted.backends.null import NullBackend
from lmtp_twisted.daemon import Options
from lmtp_twisted.daemon.destinations import Destinations
from lmtp_twisted.daemon.said import Faults
from lmtp_twisted.envelope import DirectoryEntry, Recipient
from lmtp_twisted.fallback import FirstOf
from lmtp_twisted.fanout import AllOf
from lmtp_twisted.resolving import Resolving
from lmtp_twisted.routing import Router
from lmtp_twisted.wire.addresses import Address


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("users").write_text("ann@example.org::archive\n")
    Path("aliases").write_text("info@example.org: ann@example.org\n")
    sqlite3.connect("users.db").close()


def made(*arguments: str) -> Any:
    options = Options()
    options.parseOptions(arguments if "--backend" in arguments else ["--backend", "null:", *arguments])
    pool = ThreadPool(minthreads=0, maxthreads=2)
    context = BackendContext(reactor=reactor, pool=pool, hostname="mx.example.org")
    faults = Faults()
    made = None
    with faults.caught():
        made = Destinations(context, {}, faults).of(options.said)
    faults.end()
    return made


def test_a_backend_alone_has_nothing_before_it() -> None:
    """Nobody pays for what was not asked for."""
    assert isinstance(made(), NullBackend)
    assert isinstance(made("--backend", "memory:"), MemoryBackend)
    assert isinstance(made("--subaddress", "keep", "--separator", "+-"), NullBackend)


def test_routes_are_behind_aliases_and_the_directory() -> None:
    assert isinstance(made("--route", "@x=memory:"), Router)
    resolving = made("--aliases", "aliases")
    assert isinstance(resolving, Resolving)
    assert isinstance(resolving.backend, NullBackend)
    resolving = made("--route", "@x=memory:", "--directory", "file:users")
    assert isinstance(resolving, Resolving)
    assert isinstance(resolving.backend, Router)
    assert isinstance(made("--subaddress", "drop"), Resolving)


def test_the_directory_names_backends_that_the_command_line_knows() -> None:
    router = made("--directory", "file:users", "--directory-backend", "archive=memory:").backend
    address = Address("ann", "example.org")
    assert isinstance(router.backend_for(Recipient(address, entry=DirectoryEntry(backend="archive"))), MemoryBackend)
    assert isinstance(router.backend_for(Recipient(address, entry=DirectoryEntry())), NullBackend)


@pytest.mark.parametrize(
    "description",
    [
        "first:memory:,keep=5,then=null:",
        "first:all:memory:,and=null:,then=null:",
        "first:memory:,then=memory:,then=maildir:m,quota=1G",
    ],
)
def test_a_chain_is_described_by_its_backends(description: str) -> None:
    assert isinstance(made("--backend", description), FirstOf)


@pytest.mark.parametrize("description", ["all:memory:,keep=5,and=null:", "all:first:memory:,then=null:,and=null:"])
def test_a_fan_out_is_described_by_its_backends(description: str) -> None:
    assert isinstance(made("--backend", "null:", "--route", f"@x={description}")._routes[0][1], AllOf)


def test_an_expression_may_hold_an_equals_sign() -> None:
    options = Options()
    options.parseOptions(["--route", "/^b=/=null:", "--route", "a=b=null:"])
    assert options["route"] == [("/^b=/", "null:"), ("a", "b=null:")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "first:null:"], "--backend: first: it needs several backends, as in BACKEND,then=BACKEND"),
        (["--backend", "all:null:,then=null:"], "--backend: all: it needs several backends, as in BACKEND,and=BACKEND"),
        (["--backend", "first:null:,then=nul:"], "--backend: first: 'nul:' names no known backend"),
        (["--route", "/(/=null:"], "--route: not a regular expression of RE2: /(/"),
        (["--aliases", "nowhere"], "--aliases: nowhere: No such file or directory"),
        (["--directory", "users"], "--directory: it is one of file:PATH"),
        (["--directory", "sqlite:users.db"], "--directory: sqlite: a database needs --directory-query"),
        (["--directory", "file:users", "--directory-for", "a b"], "--directory-for: not a pattern"),
        (["--directory", "file:users", "--directory-backend", "a=x:"], "--directory-backend a: 'x:' names no known"),
        (["--directory-query", "x"], "--directory-query needs --directory"),
        (["--directory-for", "x"], "--directory-for needs --directory"),
        (["--directory-backend", "a=null:"], "--directory-backend needs --directory"),
    ],
)
def test_what_is_wrong_is_said_with_its_option(arguments: list[str], words: str) -> None:
    with pytest.raises(Faults) as raised:
        made(*arguments)
    (line,) = raised.value.lines
    assert line.startswith(f"twistd lmtp: {words}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--subaddress", "x"], "--subaddress: 'x' is neither keep nor drop"),
        (["--separator", "a"], "--separator: separator is punctuation"),
        (["--route", "/x=null:"], "--route '/x=null:' is not PATTERN=BACKEND"),
        (["--directory-backend", "null:"], "--directory-backend 'null:' is not NAME=BACKEND"),
        (
            ["--directory-backend", "a=null:", "--directory-backend", "a=null:"],
            "--directory-backend: two are called 'a'",
        ),
        (["--directory-max-age", "x"], "--directory-max-age: 'x' is not a number of seconds"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match=words.replace("(", r"\(")):
        Options().parseOptions(arguments)
