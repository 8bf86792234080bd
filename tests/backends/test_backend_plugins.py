"""Backends are Twisted plugins: ours and those of others, found in a process of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmtp_twisted.backends.description import find_plugins
from lmtp_twisted.backends.plugin import BackendPlugin
from lmtp_twisted.interfaces import IDeliveryBackendPlugin

HERE = Path(__file__).parent


def python(tmp_path: Path, code: str, *distributions: str) -> subprocess.CompletedProcess[str]:
    """
    Run code with more distributions on the path; each is copied, since Twisted writes a cache beside its plugins.
    """
    for name in distributions:
        shutil.copytree(HERE / name, tmp_path / name)
    path = os.pathsep.join([str(tmp_path / name) for name in distributions])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_ours_are_found() -> None:
    found = find_plugins()
    assert {"maildir", "memory", "null", "python"} <= set(found)
    assert all(IDeliveryBackendPlugin.providedBy(plugin) for plugin in found.values())


def test_every_option_of_ours_is_taken_and_every_maker_exists() -> None:
    import inspect

    from twisted.python.reflect import namedAny

    for kind in ("maildir", "memory", "null", "python"):
        plugin = find_plugins()[kind]
        assert isinstance(plugin, BackendPlugin)
        _context, _argument, *options = inspect.signature(namedAny(plugin.maker)).parameters
        assert options == list(plugin.options)


def test_finding_them_imports_neither_the_reactor_nor_a_backend(tmp_path: Path) -> None:
    """Every twistd imports every plugin module, whatever it is to run."""
    done = python(
        tmp_path,
        "import sys\n"
        "from twisted.plugin import getPlugins\n"
        "from twisted.application.service import IServiceMaker\n"
        "from lmtp_twisted.interfaces import IDeliveryBackendPlugin\n"
        "assert 'null' in [plugin.backendType for plugin in getPlugins(IDeliveryBackendPlugin)]\n"
        "assert 'lmtp' in [plugin.tapname for plugin in getPlugins(IServiceMaker)]\n"
        "import twisted.plugins.lmtp_twisted_dropin\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
        "backends = 'lmtp_twisted.backends.'\n"
        "print(sorted(name for name in sys.modules if name.startswith((backends, 'lmtp_twisted.daemon'))))\n",
    )
    assert (done.stdout, done.stderr) == ("['lmtp_twisted.backends.plugin']\n", "")


def test_a_backend_of_others_is_found_and_built(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "from lmtp_twisted.backends.context import BackendContext\n"
        "from lmtp_twisted.backends.description import find_plugins, help_text\n"
        "built = BackendContext(None, None, 'mx').build('acme:tcp:host:24,speed=7')\n"
        "print(type(built).__name__, built.argument, built.speed)\n"
        "print(help_text(find_plugins()))\n",
        "thirdparty",
    )
    assert done.stderr == ""
    assert done.stdout.startswith("AcmeBackend tcp:host:24 7\n")
    assert "\nacme:ENDPOINT\n    Delivers to Acme.\n" in done.stdout


def test_a_broken_plugin_of_others_is_left_out(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "from lmtp_twisted.backends.context import BackendContext\n"
        "print(type(BackendContext(None, None, 'mx').build('null:')).__name__)\n",
        "broken",
    )
    assert (done.returncode, done.stdout) == (0, "NullBackend\n")
    assert "a_module_that_nobody_has" in done.stderr


def test_two_backends_of_one_name_are_refused(tmp_path: Path) -> None:
    done = python(
        tmp_path,
        "from lmtp_twisted.backends.description import find_plugins\n"
        "try:\n"
        "    find_plugins()\n"
        "except ValueError as error:\n"
        "    print(error)\n",
        "twice",
    )
    assert done.stdout.startswith("two backends are called 'null': ")
    assert "another.null" in done.stdout
    assert "lmtp_twisted.backends.null.from_description" in done.stdout


@pytest.mark.parametrize("option", ["--help-backends"])
def test_twistd_tells_of_them(tmp_path: Path, option: str) -> None:
    done = python(
        tmp_path,
        f"import sys\nsys.argv = ['twistd', 'lmtp', {option!r}]\nfrom twisted.scripts.twistd import run\nrun()\n",
        "thirdparty",
    )
    assert "acme:ENDPOINT" in done.stdout
    assert "maildir:DIRECTORY" in done.stdout
