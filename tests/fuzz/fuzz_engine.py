"""
The fuzzer, as a program, since libFuzzer ends the process that it ran in::

    python tests/fuzz/fuzz_engine.py TARGET [OPTION OF LIBFUZZER | DIRECTORY]...
    python tests/fuzz/fuzz_engine.py TARGET FILE | base64:OCTETS...

The first directory gets what is found; the corpus of the target is always read. Files, and octets in base64, are tried
once each, and for that no atheris is needed.
"""

from __future__ import annotations

import base64
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz_corpus import CORPUS, DICTIONARY, HERE, LONGEST


def main(arguments: Sequence[str]) -> None:
    """Fuzz, or try again. Where it fuzzes, the process ends with it."""
    if not arguments or arguments[0].startswith("-"):
        sys.exit(f"usage: {sys.argv[0]} TARGET [OPTION | DIRECTORY | FILE | base64:OCTETS]...")
    name, *words = arguments
    again = [octets for word in words if (octets := _octets_of(word)) is not None]
    if again and not any(word.startswith("-") for word in words):
        target = _target(name)
        for data in again:
            target(data)
        print(f"{name} holds for all {len(again)}")
    else:
        _fuzz(name, words)


def _octets_of(word: str) -> bytes | None:
    if word.startswith("base64:"):
        return base64.b64decode(word.removeprefix("base64:"), validate=True)
    return Path(word).read_bytes() if not word.startswith("-") and Path(word).is_file() else None


def _fuzz(name: str, words: Sequence[str]) -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: there are builds of it for CPython on Linux with glibc, x86-64")
    # The targets too: their second reading of a grammar has branches to steer by, where ours is a regular expression.
    with atheris.instrument_imports(include=["lmtp_twisted", *(path.stem for path in HERE.glob("fuzz_*.py"))]):
        target = _target(name)

    def try_one(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            print(f"\n{name} does not hold for {data!r}\n{how_to_try_again(name, data)}\n", flush=True)
            raise

    corpus = [] if any(map(_octets_of, words)) else [str(CORPUS / name)]
    # To make a find shorter and to merge, libFuzzer starts itself again by this name. Options that come later win.
    program = f"{sys.executable} {Path(__file__).resolve()} {name}"
    atheris.Setup([program, f"-dict={DICTIONARY}", f"-max_len={LONGEST}", *words, *corpus], try_one)
    atheris.Fuzz()


def how_to_try_again(name: str, data: bytes) -> str:
    """For whoever reads of a failure in a log, where there is no file."""
    return f"Again: python tests/fuzz/fuzz_engine.py {name} base64:{base64.b64encode(data).decode()}"


def _target(name: str) -> Callable[[bytes], None]:
    targets = importlib.import_module("fuzz_targets").TARGETS
    if name not in targets:
        sys.exit(f"no such target: {name}; there are {', '.join(targets)}")
    target: Callable[[bytes], None] = targets[name]
    return target


if __name__ == "__main__":
    main(sys.argv[1:])
