"""Compiles the programs that the benchmarks need, when they are first used and when their source has changed."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
GOPATH = Path("/usr/share/gocode")
C_OPTIONS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")


class BuildError(Exception):
    """The compiler refused; the text holds what it said."""


def lmtpload() -> Path:
    """The load generator."""
    source, target = HERE / "lmtpload.c", BUILD / "lmtpload"
    return _built(source, target, ["cc", *C_OPTIONS, "-o", str(target), str(source)])


def filing() -> Path:
    """The system calls of the Maildir backend alone."""
    source, target = HERE / "filing.c", BUILD / "filing"
    return _built(source, target, ["cc", *C_OPTIONS, "-pthread", "-o", str(target), str(source)])


def gosmtp() -> Path:
    """The go-smtp server, from Debian's packaged sources."""
    source, target = HERE / "peers" / "gosmtp" / "main.go", BUILD / "gosmtp"
    cache = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": "", "GOCACHE": str(BUILD / "go-cache")}
    return _built(source, target, ["go", "build", "-o", str(target), str(source)], cache)


def _built(source: Path, target: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Path:
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    BUILD.mkdir(exist_ok=True)
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    except FileNotFoundError:
        raise BuildError(f"{command[0]} is not installed")
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{command[0]} refused {source.name}: {error.stderr.strip()}")
    return target
