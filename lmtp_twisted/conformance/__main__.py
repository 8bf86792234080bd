"""The command line: ``python -m lmtp_twisted.conformance HOST:PORT``."""

from __future__ import annotations

import sys

from lmtp_twisted.conformance.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
