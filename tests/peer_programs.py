"""The programs of real peers: what each peer consists of, and where its programs are looked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: By peer: the programs it consists of.
PEERS = {
    "postfix": ("postfix", "postconf", "smtp-source", "smtp-sink", "sendmail"),
    "exim": ("exim4", "nc"),
    "opensmtpd": ("smtpd", "mail.lmtp"),
    "swaks": ("swaks",),
    "netcat": ("nc",),
    "procmail": ("procmail",),
    "maildrop": ("maildrop",),
    "dovecot": ("dovecot", "doveconf", "doveadm"),
    "node": ("node",),
    "haproxy": ("haproxy",),
    "nginx": ("nginx",),
    "prometheus": ("prometheus", "promtool"),
    "rabbitmq": ("rabbitmq-server", "rabbitmqctl", "epmd"),
    "btrfs": ("mkfs.btrfs", "btrfs"),
    "ext4": ("mkfs.ext4",),
    "strace": ("strace",),
    "systemd": ("systemd-socket-activate", "systemd-analyze"),
    "chromium": ("chromium", "chromedriver"),
    "jq": ("jq",),
    "logrotate": ("logrotate",),
    "postgresql": ("initdb", "pg_ctl", "postgres", "psql"),
}

#: Where tools/install-peers puts what Debian does not let be installed beside the others.
_UNPACKED = Path(__file__).parent / "peers" / "build"
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path() -> str:
    """What ``PATH`` must be to find them: that of an ordinary user lacks those of mail servers."""
    # Debian has PostgreSQL's servers in no path, each version in a directory of its own.
    databases = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN, str(_UNPACKED), *databases))


def find(program: str) -> str | None:
    """Where a program is, if it is anywhere."""
    return shutil.which(program, path=search_path())
