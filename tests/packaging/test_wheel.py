"""What is installed is complete, works without the checkout, and takes nothing of Twisted away when it is removed."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from wheels import CHECKOUT, LIBRARIES, PATIENCE, TWISTD, run

#: Where the conformance kit has its dialogues.
SCENARIOS = "lmtp_twisted/conformance/scenarios/"
#: And what the pages of ``--http`` are made of.
ASSETS = "lmtp_twisted/daemon/web/assets/"


def _isolated(target: Path | None, program: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """A Python that knows the libraries and the target, and no checkout."""
    path = [*([str(target)] if target else []), *LIBRARIES]
    return subprocess.Popen(
        [sys.executable, "-S", "-c", program, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _output_of(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the wheel was installed."""
    directory = tmp_path_factory.mktemp("target")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    run(*pip, "--target", directory, wheel, cwd=directory)
    return directory


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """What lies in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_every_module_of_the_package(names: set[str]) -> None:
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "lmtp_twisted").rglob("*.py")}
    assert modules <= names


def test_the_wheel_says_that_the_package_is_typed(names: set[str]) -> None:
    """PEP 561."""
    assert "lmtp_twisted/py.typed" in names


def test_of_twisteds_own_directories_the_wheel_has_the_dropin_and_nothing_else(names: set[str]) -> None:
    """An ``__init__.py`` there would be removed with this package, and Twisted broken."""
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/lmtp_twisted_dropin.py"}


def test_the_wheel_has_nothing_else(names: set[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"lmtp_twisted", "twisted"}
    code = {name for name in names if ".dist-info/" not in name and not name.startswith((SCENARIOS, ASSETS))}
    assert all(name.endswith((".py", "/py.typed")) for name in code)


def test_the_wheel_has_what_pages_are_made_of_and_the_licence_of_the_chart_library(names: set[str]) -> None:
    files = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / ASSETS).rglob("*") if path.is_file()}
    assert f"{ASSETS}uplot/LICENSE" in files
    assert files == {name for name in names if name.startswith(ASSETS)}


def test_the_wheel_has_the_scenarios_of_the_conformance_kit(names: set[str]) -> None:
    scenarios = {name for name in names if name.startswith(SCENARIOS)}
    assert scenarios == {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / SCENARIOS).glob("*.txt")}
    assert len(scenarios) > 10


def test_the_wheel_says_what_it_needs_and_under_which_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    assert headers["Requires-Python"] == ">=3.10"
    needed = {
        re.split(r"[\[ >=;]", value)[0].lower()
        for value in headers.get_all("Requires-Dist", [])
        if "extra" not in value
    }
    assert needed == {"twisted", "zope.interface", "attrs", "pyopenssl", "cryptography", "tomli"}
    assert headers.get_all("License-File") == ["LICENSE"]


def test_an_installed_wheel_makes_twistd_lmtp_appear(target: Path, tmp_path: Path) -> None:
    text = _output_of(_isolated(target, TWISTD, "--help", cwd=tmp_path))
    assert re.search(r"^ +lmtp +An LMTP", text, re.MULTILINE)


def test_without_it_there_is_no_twistd_lmtp(tmp_path: Path) -> None:
    """The test above would mean nothing if the checkout were found."""
    assert " lmtp " not in _output_of(_isolated(None, TWISTD, "--help", cwd=tmp_path))


def test_an_installed_wheel_starts_delivers_and_stops(target: Path, tmp_path: Path) -> None:
    program = f"import lmtp_twisted; print(lmtp_twisted.__file__, flush=True); {TWISTD}"
    server = _isolated(target, program, "-n", "--pidfile=", "lmtp", "--port", "0", cwd=tmp_path)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"{target}/")
        lines = []
        while not (match := re.search(r"listening on 127\.0\.0\.1:(\d+)$", lines[-1] if lines else "")):
            lines.append(server.stdout.readline())
            assert lines[-1], "".join(lines)
        with smtplib.LMTP("127.0.0.1", int(match[1]), timeout=PATIENCE) as client:
            client.sendmail("a@example.net", ["user@example.org"], "Subject: hello\r\n\r\nhello\r\n")
        server.terminate()
        rest, _ = server.communicate(timeout=PATIENCE)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == -signal.SIGTERM, rest
    (message,) = (tmp_path / "mail/example.org/user/new").iterdir()
    assert message.read_text().endswith("Subject: hello\n\nhello\n")


def test_an_installed_wheel_has_its_conformance_kit(target: Path, tmp_path: Path) -> None:
    """With its dialogues."""
    program = "import sys; from lmtp_twisted.conformance.command import main; sys.exit(main(['--list']))"
    assert " final/three-recipients " in _output_of(_isolated(target, program, cwd=tmp_path))


def test_an_editable_install_makes_twistd_lmtp_appear(checkout: Path, tmp_path: Path) -> None:
    """It does where the checkout itself is put on the path, which ``package_dir`` in setup.cfg sees to."""
    hook = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    run(sys.executable, "-c", hook, tmp_path, cwd=checkout)
    (built,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)
    program = f"import site; site.addsitedir({str(site)!r}); {TWISTD}"
    assert re.search(r"^ +lmtp +An LMTP", _output_of(_isolated(None, program, "--help", cwd=tmp_path)), re.MULTILINE)
