"""The documentation builds without a warning, and its reference holds all that it must."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from docs_pages import ROOT
from zope.interface.interfaces import IInterface

import lmtp_twisted
from lmtp_twisted import client, interfaces, testing
from lmtp_twisted.backends.plugin import BackendPlugin
from lmtp_twisted.client.command import parser as client_parser
from lmtp_twisted.conformance.command import parser
from lmtp_twisted.daemon import Options
from lmtp_twisted.sequence import SEQUENCE, State
from twisted.plugins import lmtp_twisted_dropin

pytest.importorskip("sphinx", reason="it is in the extra docs")
pytest.importorskip("furo", reason="it is in the extra docs")

INTERFACES = [value for value in vars(interfaces).values() if IInterface.providedBy(value)]
OURS = [interface for interface in INTERFACES if interface.__module__ == interfaces.__name__]

_SUFFIXES = {"text": "txt", "html": "html"}


def build(kind: str, target: Path) -> Mapping[str, str]:
    """
    :param kind: of Sphinx' builders.
    :param target: where; what was read for one builder need not be read for another.
    :returns: the pages by their names.
    """
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", kind]
    # Quotes and hyphens as in HTML: by default Sphinx never changes them in text.
    command += ["-D", "smartquotes_excludes.builders=man"]
    done = subprocess.run(
        [*command, "-d", str(target / "doctrees"), str(ROOT / "docs"), str(target / kind)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    names = (path.stem for path in (ROOT / "docs").glob("*.rst"))
    built = {name: target / kind / f"{name}.{_SUFFIXES[kind]}" for name in names}
    return {name: path.read_text(encoding="utf-8") for name, path in built.items() if path.exists()}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they are built."""
    return tmp_path_factory.mktemp("docs")


@pytest.fixture(scope="module")
def pages(directory: Path) -> Mapping[str, str]:
    """The pages as text, by their names."""
    return build("text", directory)


def test_every_page_is_built(pages: Mapping[str, str]) -> None:
    """And stands in a table of contents, or Sphinx would have warned."""
    assert pages.keys() == {path.stem for path in (ROOT / "docs").glob("*.rst")}


def test_no_page_shows_an_error_of_the_theme(pages: Mapping[str, str], directory: Path) -> None:
    """Furo's style puts one before a table of contents in a page, class ``contents``; to Sphinx that is no warning."""
    site = build("html", directory)
    assert site.keys() == pages.keys()
    assert not [name for name, text in site.items() if re.search(r'class="([^"]* )?contents[ "]', text)]


@pytest.mark.parametrize("interface", OURS, ids=lambda interface: interface.__name__)
def test_an_interface_is_there_with_all_its_members(interface: Any, pages: Mapping[str, str]) -> None:
    """With its docstring and theirs."""
    page = " ".join(pages["interfaces"].split())
    assert f"class {interface.__identifier__}" in page
    # Up to the first markup, which looks different there.
    start = re.split(r"[:`*]{1}", " ".join((interface.__doc__ or "").split()), maxsplit=1)[0].strip()
    assert start
    assert start in page
    for name, description in interface.namesAndDescriptions():
        first = re.split(r"[:`*]{1}", " ".join(description.__doc__.split()), maxsplit=1)[0].strip()
        assert name in page
        assert first in page


@pytest.mark.parametrize("name", lmtp_twisted.__all__)
def test_a_public_name_is_there(name: str, pages: Mapping[str, str]) -> None:
    """All that ``lmtp_twisted`` exports."""
    assert re.search(rf"^(class|exception) lmtp_twisted\.{name}\b", pages["api"], re.MULTILINE)


@pytest.mark.parametrize("name", client.__all__)
def test_a_public_name_of_the_client_is_there(name: str, pages: Mapping[str, str]) -> None:
    """All that ``lmtp_twisted.client`` exports."""
    assert re.search(rf"^((class|exception) |async )?lmtp_twisted\.client\.{name}\b", pages["api"], re.MULTILINE)


FAKES = [name for name, value in vars(testing).items() if getattr(value, "__module__", "") == testing.__name__]


@pytest.mark.parametrize("name", [name for name in FAKES if not name.startswith("_")])
def test_a_public_fake_is_there(name: str, pages: Mapping[str, str]) -> None:
    """All that people who test their own deliveries can use."""
    assert re.search(rf"^(class )?lmtp_twisted\.testing\.{name}\b", pages["api"], re.MULTILINE)


def option_names() -> list[str]:
    """The options of the daemon, as one types them."""
    options = Options()
    names: list[Any] = [option[0] for option in (*options.optFlags, *options.optParameters)]
    names += [name[len("opt_") :].replace("_", "-") for name in vars(Options) if name.startswith("opt_")]
    return names


def kit_option_names() -> list[str]:
    """Those of the conformance kit."""
    return [option.option_strings[-1][2:] for option in parser()._actions if option.option_strings]


def client_option_names() -> list[str]:
    """Those of ``python -m lmtp_twisted.client``."""
    return [option.option_strings[-1][2:] for option in client_parser()._actions if option.option_strings]


@pytest.mark.parametrize("name", option_names())
def test_an_option_of_the_daemon_is_there(name: str, pages: Mapping[str, str]) -> None:
    """In the table of docs/options.rst."""
    assert re.search(rf'^\| "--{name}=?" +\| \S', pages["options"], re.MULTILINE)


@pytest.mark.parametrize("name", kit_option_names())
def test_an_option_of_the_conformance_kit_is_there(name: str, pages: Mapping[str, str]) -> None:
    """In the table of docs/conformance.rst."""
    assert re.search(rf'^\| "--{name}=?" +\| \S', pages["conformance"], re.MULTILINE) or name == "help"


def test_options_keep_their_hyphens(pages: Mapping[str, str]) -> None:
    """Sphinx would make one dash of two, also in a text that is to be typed."""
    assert "see --help-backends" in " ".join(pages["options"].split())


PLUGINS = [value for value in vars(lmtp_twisted_dropin).values() if isinstance(value, BackendPlugin)]


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.backendType)
def test_a_backend_is_there_with_its_options(plugin: BackendPlugin, pages: Mapping[str, str]) -> None:
    """With what ``--help-backends`` says of them."""
    page = " ".join(pages["options"].split())
    assert f'"{plugin.backendType}:{plugin.argumentHelp}" {plugin.description}' in page
    for key, text in plugin.options.items():
        assert f'",{key}=…" {text}' in page


#: Those of ``make kill`` that a page names; its own test gives them to it.
KILL_OPTIONS = ("kills", "parallel")
MEMORY_OPTIONS = ("servers",)
#: Those of aiosmtpd, which test_docs_aiosmtpd.py compares with its own.
AIOSMTPD_OPTIONS = {"class", "size", "smtputf8", "nosetuid", "debug", "smtpscert", "smtpskey", "tlscert", "tlskey"}
AIOSMTPD_OPTIONS |= {"no-requiretls", "version"}
#: Those of logrotate, which test_docs_blocks.py runs, and of the benchmark.
LOGGING_OPTIONS = {"debug", "state", "repeat"}
OF_PAGES = {"metrics.rst": {"rounds"}, "aiosmtpd.rst": AIOSMTPD_OPTIONS, "logging.rst": LOGGING_OPTIONS}


def test_the_options_of_the_pages_exist() -> None:
    """Whatever a page calls ``--something`` is an option of the daemon, the kit, a make target, twistd or pip."""
    ours = {*option_names(), *kit_option_names(), *client_option_names(), *KILL_OPTIONS, *MEMORY_OPTIONS}
    of_others = {"pidfile", "logfile", "rundir", "uid", "gid", "reactor", "protocol", "server", "from", "to", "help"}
    of_others |= {"chroot", "system", "group", "home", "no-create-home", "user-group", "home-dir", "now", "help-auth"}
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.rst")):
        used = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", path.read_text(encoding="utf-8")))
        known = ours | of_others | OF_PAGES.get(path.name, set())
        assert used <= known, (path, used - known)


def test_the_table_of_commands_and_states_is_the_one_of_the_sessions(pages: Mapping[str, str]) -> None:
    """docs/architecture.rst."""
    lines = pages["architecture"].split("\n")
    for verb in SEQUENCE:
        (row,) = (line for line in lines if re.match(rf'\| "{verb.decode()}" ', line))
        cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
        accepted = [cell == "✓" for cell in cells]
        assert accepted == [SEQUENCE[verb][state] is None for state in State]


def test_what_the_pages_name_is_there() -> None:
    """Targets of the Makefile, and files of the checkout."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.rst")):
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"`make ([a-z]+)`|^make ([a-z]+)$", text, re.MULTILINE):
            assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), (path, target)
        for name in re.findall(r"`((?:docs|tests|lmtp_twisted)/[\w/.]+)`", text):
            # What a build makes is there only after it.
            assert (ROOT / name).exists() or name.startswith("docs/_build/"), (path, name)
