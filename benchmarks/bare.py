"""No server: the system calls of the Maildir backend alone, which is what the disk and the kernel let anyone have."""

import json
import resource
import subprocess
from pathlib import Path

from benchmarks import build
from benchmarks.load import MAILBOXES, PATIENCE, Load, LoadError, Measurement
from lmtp_twisted.backends.maildir.disk import can_sync_together

#: As many as the backend has for messages that are not large, where it syncs the file system as a whole.
THREADS = 2


def calls(load: Load, directory: Path) -> Measurement:
    """
    Files messages as the backend does, with as many of them under way as there would be sessions.

    :param load: of which the sessions, octets, recipients and seconds count.
    :param directory: an empty one.
    :raises LoadError: where a system call fails.
    """
    command = [
        *(str(build.filing()), "-n", str(THREADS), "-b", str(max(1, load.sessions // THREADS))),
        *("-r", str(load.recipients), "-l", str(load.octets), "-u", str(MAILBOXES), "-t", str(load.seconds)),
    ]
    if can_sync_together(directory.stat().st_dev):
        command.append("-S")
    before = _cpu_seconds()
    try:
        done = subprocess.run(
            [*command, str(directory)], check=True, capture_output=True, text=True, timeout=load.seconds + PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise LoadError("not done in time")
    except subprocess.CalledProcessError as error:
        raise LoadError(error.stderr.strip() or f"it ended with status {error.returncode}")
    used = _cpu_seconds() - before
    values = json.loads(done.stdout)
    return Measurement(values["messages"], values["seconds"], used)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
