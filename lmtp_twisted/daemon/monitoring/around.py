"""What is not counted but looked at: the process, the spool, and what backends tell of themselves."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from twisted.logger import Logger

from lmtp_twisted.daemon.monitoring.catalogue import Figures, joined
from lmtp_twisted.spool import Spool

_log = Logger(namespace="lmtp_twisted")

# Figures of a backend, so that the number of metrics is bounded whatever one makes up; and their names.
_MOST_OF_BACKEND = 20
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def of_process() -> Figures:
    """Memory, files and processor time of this process, as far as the system tells."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures: Figures = {"process_cpu_seconds_total": {"": usage.ru_utime + usage.ru_stime}}
    try:
        with open("/proc/self/statm", "rb") as file:
            figures["process_resident_memory_bytes"] = {"": int(file.read().split()[1]) * _PAGE}
        # Without the descriptor that reads the directory.
        figures["process_open_fds"] = {"": len(os.listdir("/proc/self/fd")) - 1}
    except OSError:
        # There is no /proc here.
        pass
    return figures


def of_spools(spools: Collection[Spool]) -> Figures:
    """Contents in memory and in files."""
    return {
        "lmtp_spool_memory_bytes": {"": sum(spool.used for spool in spools)},
        "lmtp_spool_files": {"": sum(len(spool.open_files) for spool in spools)},
    }


def of_backends(backends: Iterable[tuple[str, Any]]) -> Figures:
    """
    What backends tell, see :class:`~lmtp_twisted.interfaces.IMeasuredBackend`. Those with the same label are added.

    :param backends: each with its label.
    """
    figures: Figures = {}
    for label, backend in backends:
        tell = getattr(backend, "figures", None)
        if tell is None:
            continue
        try:
            for name, value in list(tell().items())[:_MOST_OF_BACKEND]:
                if _NAME.fullmatch(name):
                    _add(figures, f"lmtp_backend_{name}", label, value)
        except Exception:
            _log.failure("the backend {label} could not tell its figures", label=label)
    return figures


def _add(figures: Figures, name: str, label: str, value: float | Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping):
        values = figures.setdefault(name, {})
        values[label] = values.get(label, 0) + value
        return
    _add(figures, f"{name}_sum", label, value["sum"])
    for end, count in value["buckets"].items():
        _add(figures, f"{name}_bucket", joined(label, end), count)
