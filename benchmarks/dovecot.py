"""The configuration of a Dovecot that serves LMTP into Maildirs, all of it below one directory."""

import os
import pwd
from pathlib import Path

USER = "vmail"

CONFIGURATION = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
protocols = lmtp
listen = 127.0.0.1
ssl = no
first_valid_uid = {uid}
first_valid_gid = {gid}
mail_location = maildir:{directory}/mail/%u
auth_username_format = %Lu
userdb {{
  driver = static
  args = uid={user} gid={user} home={directory}/mail/%u allow_all_users=yes
}}
passdb {{
  driver = static
  args = nopassword=y
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  process_min_avail = 2
  client_limit = 1
}}
namespace inbox {{
  inbox = yes
}}
"""


def configure(directory: Path, port: int, more: str = "") -> Path:
    """
    Writes the configuration; mail goes to ``mail`` in the directory and is fsynced as Dovecot does by default.

    :param directory: where only this Dovecot's files will be.
    :param more: further lines of configuration.
    :returns: the file's name, for ``dovecot -c``.
    """
    owner = pwd.getpwnam(USER)
    mail = directory / "mail"
    mail.mkdir()
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    file = directory / "dovecot.conf"
    text = CONFIGURATION.format(directory=directory, port=port, user=USER, uid=owner.pw_uid, gid=owner.pw_gid)
    file.write_text(text + more)
    return file


def absence() -> str:
    """Why Dovecot can't be had here; empty where it can."""
    if not Path("/usr/lib/dovecot/lmtp").exists():
        return "dovecot-lmtpd is not installed"
    if os.geteuid() != 0:
        return "it is started by root only"
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return f"there is no user {USER}"
    return ""
