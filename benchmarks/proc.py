"""
What a tree of processes has cost so far, read from ``/proc`` (Linux, proc(5)).

Not for anything but reading; processes are started and stopped in :mod:`benchmarks.process`.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PARENT, SESSION, START_TIME = 1, 3, 19
CPU_TIMES = slice(11, 15)  # utime, stime, and those of the children that have ended and been waited for


def stat_fields(pid: int) -> list[str]:
    """
    The fields of ``/proc/PID/stat`` that follow the command's name, the state being number 0.

    :returns: an empty list where there is no such process any more.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def started_at(pid: int) -> str:
    """Tells a process from a later one with the same number; empty where there is none."""
    fields = stat_fields(pid)
    return fields[START_TIME] if fields else ""


def tree(root: int) -> list[int]:
    """The process ``root``, all of its session (credentials(7)), and all that descend from these."""
    found = [root]
    children: dict[int, list[int]] = {}
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        if not (fields := stat_fields(pid)):
            continue
        if int(fields[SESSION]) == root != pid:
            found.append(pid)
        else:
            children.setdefault(int(fields[PARENT]), []).append(pid)
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, and of their children that have ended."""
    times = (stat_fields(pid)[CPU_TIMES] for pid in pids)
    return sum(int(ticks) for fields in times for ticks in fields) / TICKS_PER_SECOND


def memory(pids: Iterable[int], field: str) -> int:
    """
    The sum of one field of ``/proc/PID/status``; what processes share is counted once for each.

    :param field: ``VmRSS`` (now) or ``VmHWM`` (the peak so far).
    :returns: octets.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1]) * 1024
    return total


def reset_peak(pids: Iterable[int]) -> None:
    """Makes the peak of each of these processes what it uses now."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
