"""``twistd`` on a disk that takes a while for each write to the spool, and for each sync of what is called "slow"."""

import os
import sys
import time
from typing import Any

from twisted.scripts.twistd import run

from lmtp_twisted import spool
from lmtp_twisted.backends.maildir import disk

#: Seconds.
A_WRITE, A_SYNC = 0.2, 0.2


class _SlowOs:
    """``os``, as the spool sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: Any) -> int:
        time.sleep(A_WRITE)
        return os.write(descriptor, data)


def _slowly(sync: Any) -> Any:
    def slow(descriptor: int) -> Any:
        if "/slow" in os.readlink(f"/proc/self/fd/{descriptor}"):
            time.sleep(A_SYNC)
        return sync(descriptor)

    return slow


if __name__ == "__main__":
    vars(spool)["os"] = _SlowOs()
    vars(os)["fsync"] = _slowly(os.fsync)
    disk.syncfs = _slowly(disk.syncfs)
    sys.argv[0] = "twistd"
    run()
