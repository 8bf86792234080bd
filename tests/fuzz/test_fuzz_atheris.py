"""
A bounded run of the fuzzer: so many inputs of each target, and the same ones each time, until what is fuzzed changes.

``make fuzz`` runs for longer, and goes on where it was.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz_corpus import HERE
from fuzz_planted import planted
from fuzz_targets import TARGETS

pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris not found: pip install -e '.[fuzz]'")

#: Inputs, for about a second and a half of each target.
RUNS = {
    "addresses": 50_000,
    "parameters": 30_000,
    "commands": 20_000,
    "content": 3_000,
    "chunks": 20_000,
    "replies": 1_000,
    "attributes": 10_000,
    "proxy": 3_000,
    "auth": 10_000,
    "session": 300,
}
#: Seconds that a run may take on the busiest machine.
PATIENCE = 100

#: The engine with a defect in the decoder of DATA, and with nothing to begin from.
PLANTED = """
import sys
from pathlib import Path
import fuzz_engine
from fuzz_targets import TARGETS
from fuzz_planted import planted
fuzz_engine.CORPUS = Path(sys.argv.pop())
with planted("content"):
    fuzz_engine.main(sys.argv[1:])
"""


def _run(program: list[str], target: str, finds: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A run with a fixed seed, whose finds go into a directory."""
    options = ["-seed=1", f"-runs={RUNS[target]}", f"-artifact_prefix={finds}/", str(finds)]
    # Coverage would watch each instruction a second time, and the process ends without saving it.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    return subprocess.run(
        [sys.executable, *program, target, *options, *more],
        cwd=HERE,
        env={**environment, "PYTHONPATH": str(HERE)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE,
    )


def _words_of(done: subprocess.CompletedProcess[str]) -> str:
    """The output without what libFuzzer says of its progress."""
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("#", "INFO:", '"')))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_holds_for_what_the_fuzzer_makes(target: str, tmp_path: Path) -> None:
    """See the target for what it demands."""
    done = _run([str(HERE / "fuzz_engine.py")], target, tmp_path)
    assert done.returncode == 0, _words_of(done)
    assert f"Done {RUNS[target]} runs" in done.stdout


def test_the_fuzzer_finds_a_planted_defect_and_says_how_to_see_it_again(tmp_path: Path) -> None:
    """From nothing, by what it learns of the code."""
    empty, finds = tmp_path / "content", tmp_path / "finds"
    empty.mkdir()
    finds.mkdir()
    done = _run(["-c", PLANTED], "content", finds, str(tmp_path))
    assert done.returncode != 0
    assert "AssertionError" in done.stdout
    (found,) = finds.glob("crash-*")
    again = re.search(r"^Again: python tests/fuzz/(fuzz_engine\.py) (content) (base64:\S+)$", done.stdout, re.MULTILINE)
    assert again, _words_of(done)
    engine = [sys.executable, *again.groups()]
    assert subprocess.run(engine, cwd=HERE, capture_output=True, text=True).stdout == "content holds for all 1\n"
    with planted("content"), pytest.raises(AssertionError):
        TARGETS["content"](found.read_bytes())
