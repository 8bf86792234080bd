"""Which form the log has: what was said, and whether its reader is systemd's journal."""

from __future__ import annotations

import os

from lmtp_twisted.daemon.forms import Form, JSONForm, TextForm
from lmtp_twisted.daemon.said import Said


def form_of(said: Said, descriptor: int | None = None) -> Form:
    """
    :param said: the options.
    :param descriptor: where the log goes, where that is no file that it opens.
    """
    wanted = said["log-priority"]
    with_priority = wanted == "yes" or (wanted == "auto" and descriptor is not None and _is_journal(descriptor))
    return (JSONForm if said["log-format"] == "json" else TextForm)(with_priority=with_priority)


def _is_journal(descriptor: int) -> bool:
    """
    Whether the descriptor is the one that systemd has connected with the journal (systemd.exec(5), ``JOURNAL_STREAM``):
    the variable alone says nothing, since it is there as well where the output was sent elsewhere since.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
