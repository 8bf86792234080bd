"""``python -m lmtp_twisted.client``: see :mod:`lmtp_twisted.client.command`."""

from __future__ import annotations

import sys

from lmtp_twisted.client.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
