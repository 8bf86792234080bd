"""How packages are built and run here: with nothing from the network, and nothing of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
#: Seconds that anything here may take.
PATIENCE = 60.0

#: Where Twisted and what it needs lie. Without ``-S`` Python would also see an editable install of this very package.
LIBRARIES = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
TWISTD = "from twisted.scripts.twistd import run; run()"


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that has to succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(sources: Path, directory: Path) -> Path:
    """The wheel. Built without isolation, so with the setuptools that is installed, which then needs no network."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, sources, cwd=directory)
    (built,) = directory.glob("*.whl")
    return built
