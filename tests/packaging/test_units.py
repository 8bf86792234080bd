"""The units in contrib/systemd, as systemd reads them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from twisted.scripts.twistd import ServerOptions

from lmtp_twisted.daemon.listening import read_description
from lmtp_twisted.daemon.positions import parse
from lmtp_twisted.daemon.service import patience_with_workers

UNITS = Path(__file__).resolve().parents[2] / "contrib" / "systemd"
PAGE = UNITS.parents[1] / "docs" / "service.rst"
# Of ten; what is left is the network, and the users of the machine.
MOST_EXPOSED = 2.0


def read(name: str) -> ConfigParser:
    """The sections and settings of a unit; of a setting that comes twice, the last."""
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser's documentation has it
    unit.read(UNITS / name)
    return unit


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units, with programs and users of this machine."""
    there = []
    for path in sorted(UNITS.iterdir()):
        text = path.read_text().replace("/opt/lmtp/bin/twistd", sys.executable)
        text = text.replace("=vmail", "=daemon").replace("SocketGroup=postfix", "SocketGroup=daemon")
        there.append(tmp_path / path.name)
        there[-1].write_text(text)
    return there


@pytest.mark.peer("systemd")
def test_systemd_finds_nothing_wrong_with_them(installed: list[Path]) -> None:
    """It says so by saying nothing: what it does not know is a warning only."""
    done = subprocess.run(["systemd-analyze", "verify", *installed], capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.split("\n") if "lmtp" in line]) == (0, [])


@pytest.mark.peer("systemd")
def test_what_systemd_does_not_know_is_found_out(installed: list[Path]) -> None:
    """The test above can fail."""
    service = next(path for path in installed if path.name == "lmtp.service")
    service.write_text(service.read_text().replace("ProtectHome=", "ProtectHouse="))
    done = subprocess.run(["systemd-analyze", "verify", *installed], capture_output=True, text=True, timeout=60)
    assert "lmtp.service" in done.stderr


@pytest.mark.peer("systemd")
def test_the_service_may_do_little(installed: list[Path]) -> None:
    """And the page tells the figure."""
    service = next(path for path in installed if path.name == "lmtp.service")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED * 10:.0f}", service],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert float(done.stdout.split("exposure level for lmtp.service: ")[1].split()[0]) <= MOST_EXPOSED


def test_the_service_starts_the_server_and_waits_long_enough_for_its_end(tmp_path: Path) -> None:
    """Sessions, ports, backends and threads may each take as long as the sessions get."""
    service = read("lmtp.service")["Service"]
    (tmp_path / "lmtp.toml").write_text('backend = "null:"\n')
    program, *arguments = shlex.split(service["ExecStart"].replace("/etc/lmtp", str(tmp_path)))
    assert program == "/opt/lmtp/bin/twistd"
    options = ServerOptions()
    options.parseOptions(arguments)
    assert options["nodaemon"]
    assert options["pidfile"] == ""
    assert options.subCommand == "lmtp"
    assert service["Type"] == "notify"
    drain_timeout = options.subOptions["drain-timeout"]  # type: ignore[attr-defined]
    assert int(service["TimeoutStopSec"]) > 4 * drain_timeout
    # A parent waits for its workers, and has ports, backends and threads itself.
    assert int(service["TimeoutStopSec"]) > patience_with_workers(drain_timeout) + 3 * drain_timeout
    # Where only a worker hangs, even systemd's default is enough.
    assert patience_with_workers(drain_timeout) < 90


@pytest.mark.parametrize(("name", "domain"), [("lmtp.socket", "UNIX"), ("lmtp-tcp.socket", "INET")])
def test_the_sockets_have_the_names_by_which_the_server_asks_for_them(name: str, domain: str) -> None:
    unit = read(name)["Socket"]
    asked = f"systemd:domain={domain}:name={unit['FileDescriptorName']}"
    assert asked in (UNITS / name).read_text()
    assert read_description(asked).kind == "systemd"


def test_the_page_has_the_socket_of_the_unit() -> None:
    text = PAGE.read_text().partition(":caption: /etc/lmtp/lmtp.toml\n")[2].partition(".. code-block")[0]
    listen = parse("\n".join(line.strip() for line in text.split("\n")))[0]["listen"]
    assert listen == [f"systemd:domain=UNIX:name={read('lmtp.socket')['Socket']['FileDescriptorName']}"]
