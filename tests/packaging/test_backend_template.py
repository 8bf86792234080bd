"""The template of docs/backend-plugin.rst: a backend of somebody else's, installed beside ours."""

from __future__ import annotations

import re
import shutil
import signal
import smtplib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from wheels import CHECKOUT, LIBRARIES, PATIENCE, TWISTD, build_wheel, run

TEMPLATE = CHECKOUT / "docs" / "backend-template"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its wheel."""
    sources = tmp_path_factory.mktemp("sources") / "template"
    shutil.copytree(TEMPLATE, sources, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    return build_wheel(sources, tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module")
def python(wheel: Path, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    The interpreter of a clean environment with both wheels. Twisted and what it needs come from the environment of the
    tests, by a path: so an editable install there is not seen.
    """
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    interpreter = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", interpreter, "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", wheel, template, cwd=environment)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text("\n".join(LIBRARIES) + "\n")
    return interpreter


def test_its_wheel_has_the_backend_and_the_plugin_and_nothing_else(template: Path) -> None:
    """An ``__init__.py`` of Twisted's would be removed with it."""
    with zipfile.ZipFile(template) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {"lmtp_shelf/__init__.py", "lmtp_shelf/shelf.py", "twisted/plugins/lmtp_shelf_dropin.py"}


def test_it_is_among_the_backends(python: Path, tmp_path: Path) -> None:
    """Beside ours."""
    text = run(python, "-c", TWISTD, "lmtp", "--help-backends", cwd=tmp_path)
    assert "\nshelf:DIRECTORY\n    Writes each message to a file of a directory.\n" in text
    assert "\nmaildir:DIRECTORY\n" in text


@contextmanager
def server(python: Path, backend: str, directory: Path) -> Iterator[int]:
    """``twistd lmtp``; gives its port."""
    command = [str(python), "-c", TWISTD, "-n", "--pidfile=", "lmtp", "--port", "0", "--backend", backend]
    process = subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        while not (match := re.search(r"listening on 127\.0\.0\.1:(\d+)$", lines[-1] if lines else "")):
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        yield int(match[1])
        process.terminate()
        rest, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGTERM, rest
    finally:
        process.kill()
        process.communicate()


def test_a_message_is_delivered_through_it(python: Path, tmp_path: Path) -> None:
    """With its option."""
    (tmp_path / "letters").mkdir()
    with (
        server(python, "shelf:letters,suffix=.txt", tmp_path) as port,
        smtplib.LMTP("127.0.0.1", port, timeout=PATIENCE) as client,
    ):
        client.sendmail("a@example.net", ["user@example.org"], "Subject: hello\r\n\r\nhello\r\n")
    (letter,) = (tmp_path / "letters").glob("*.txt")
    assert letter.read_bytes().startswith(b"Return-Path: <a@example.net>\r\nDelivered-To: user@example.org\r\n")
