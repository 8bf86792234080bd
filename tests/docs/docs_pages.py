"""
The pages of the documentation as their code blocks, and which of these are not run, each with its reason.

A line-based reader is enough, and it takes nothing on trust: whatever looks like code and has no language that is known
here becomes a block all the same, of a language that nothing can run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]

#: Commands that no test of the documentation runs, and why.
NOT_RUN = {
    "make run": "it makes a virtual environment with pip; what it starts is the command of the tutorial",
    "make test": "it is what runs this; CI calls it under this very name",
    "pip install .": "it needs the network; the tests of the packaging install a wheel",
    "python3 -m venv .venv": "what it makes is the environment of the tests",
    ". .venv/bin/activate": "the programs of the environment of the tests are first in the path",
    "pip install pytest": "it needs the network; pytest is what runs this",
    "grep -o ': to=<.*' /var/log/mail.log": "test_docs_postfix.py types it where there is such a log",
    "adduser --system --group --home /srv/mail --no-create-home vmail": "it changes the machine",
    "pip install '.[amqp]'": "it needs the network; what it installs is there for the tests",
    "python -m pytest -q tests/amqp/test_amqp_kill.py": "it is one of the tests",
    "python tests/page/measure.py": "it takes a machine that does nothing else",
    "ssh -N -L 8025:127.0.0.1:8025 mx.example.org": "it needs another machine",
    r"""printf 'operator:%s\n' "$(openssl passwd -apr1)" > /etc/nginx/lmtp-status.passwords""": (
        "it asks at the terminal; test_docs_status_page.py types it"
    ),
    "python tests/amqp/measure.py": "it takes a machine that does nothing else",
    "chown -R root:vmail /etc/lmtp": "whoever runs the tests runs the server, and made these files",
    "systemctl daemon-reload": "it changes the machine; test_units.py has systemd read the units",
    "systemctl reload haproxy": "it changes the machine; an HAProxy of our own runs with the same configuration",
    "apt-get install postfix": "it changes the machine",
    "postfix reload": "it changes the machine; a Postfix of our own runs with the same settings",
    "systemctl reload exim4": "it changes the machine; an Exim of our own runs with the same settings",
    "exim4 -bt alice@example.org": "test_docs_exim.py types it where there is an Exim with these settings",
    "exim4 -bP message_size_limit": "test_docs_exim.py types it where there is an Exim with these settings",
    "exim4 -bP transport lmtp | grep -E '^(final_timeout|message_linelength_limit) '": (
        "test_docs_exim.py types it where there is an Exim with these settings"
    ),
    "smtpd -n": "test_docs_opensmtpd.py asks an OpenSMTPD of our own",
    "systemctl restart opensmtpd": "it changes the machine; an OpenSMTPD of our own runs with the same settings",
    "grep -o ' to=<.*@example.org> rcpt=.*' /var/log/mail.log": (
        "test_docs_opensmtpd.py types it where there is such a log"
    ),
    "grep -o ' [*=-][*=>] .*@example.org .*' /var/log/exim4/mainlog": (
        "test_docs_exim.py types it where there is such a log"
    ),
}

# test_docs_production.py types these where there is a Postfix.
NOT_RUN |= dict.fromkeys(
    (
        "sendmail -f you@example.net alice@example.org < letter.eml",
        "ls /srv/mail/example.org/alice",
        "grep -h ^Subject: /srv/mail/example.org/alice/new/*",
        "journalctl -t postfix/lmtp -o cat -n 1",
        "journalctl -u lmtp -o cat | grep reply=",
        "cp contrib/systemd/lmtp.service /etc/systemd/system/",
        "sed 's|^ListenStream=.*|ListenStream=/var/spool/postfix/lmtp/socket|' contrib/systemd/lmtp.socket "
        "> /etc/systemd/system/lmtp.socket",
        "systemctl restart lmtp",
        "curl -s http://127.0.0.1:8025/health",
        "curl -s http://127.0.0.1:8025/metrics | grep ^lmtp_replies_total",
        "curl -s http://127.0.0.1:8025/metrics | grep ^lmtp_processes",
    ),
    "test_docs_production.py types it",
)
NOT_RUN |= dict.fromkeys(
    (
        "/usr/bin/python3 -m venv /opt/lmtp-1",
        "/opt/lmtp-1/bin/pip install '.[http]'",
        "ln -sfn /opt/lmtp-1 /opt/lmtp",
        "/usr/bin/python3 -m venv /opt/lmtp-2",
        "/opt/lmtp-2/bin/pip install '.[http]'",
        "ln -sfn /opt/lmtp-2 /opt/lmtp && systemctl restart lmtp",
        "ln -sfn /opt/lmtp-1 /opt/lmtp && systemctl restart lmtp",
    ),
    "it changes the machine",
)

# The end of the tutorial: test_docs_tutorial.py types these where there is a Postfix.
NOT_RUN |= dict.fromkeys(
    (
        "sendmail -f alice@example.org bob@example.org carol@example.org < letter.eml",
        "sendmail -f alice@example.org bob@example.org < letter.eml",
        "postqueue -p",
        "postqueue -f",
        "python read.py",
    ),
    "test_docs_tutorial.py types it",
)

# docs/service.rst: what changes the machine, and what tests of the daemon see.
NOT_RUN |= {
    "systemctl enable --now lmtp.socket lmtp.service": "it changes the machine; test_units.py has systemd read them",
    "systemctl status lmtp": "test_twistd_notify.py sees the status",
    "python -m pytest tests/daemon/test_twistd_rolling_restart.py": "it is one of the tests",
    "systemctl reload lmtp": "test_twistd_reload.py sees these lines",
    "journalctl -u lmtp -o cat": "test_twistd_reload.py sees these lines",
    "/opt/lmtp/bin/twistd --uid vmail --gid vmail --rundir /var/lib/lmtp --pidfile /var/lib/lmtp/lmtp.pid "
    "--logfile /var/log/lmtp.log lmtp --config /etc/lmtp/lmtp.toml": "test_twistd_privileges.py starts such a daemon",
    'kill -HUP "$(cat /var/lib/lmtp/lmtp.pid)"': "test_twistd_privileges.py starts such a daemon",
    'kill "$(cat /var/lib/lmtp/lmtp.pid)"': "test_twistd_privileges.py starts such a daemon",
}

# test_docs_pipe.py types these where there are such programs.
NOT_RUN |= {
    f"twistd -n --pidfile= lmtp --port 2524 --backend 'pipe:{command}'": "test_docs_pipe.py types it"
    for command in (
        "procmail -f {sender} -m /srv/mail/procmailrc {user}",
        "maildrop /srv/mail/mailfilter {user}",
        "/usr/lib/dovecot/dovecot-lda -c /srv/mail/dovecot.conf -e -f {sender} -a {recipient},user=vmail",
    )
}

_CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=store.example.org "
    "-addext subjectAltName=DNS:store.example.org -keyout /etc/lmtp/key.pem -out /etc/lmtp/cert.pem"
)
_PASSWORD = r"printf '%s\n' 'guest' > /etc/lmtp/queue-password"

#: Commands for root in whose place others are run, since they need users of the machine.
INSTEAD = {
    "install -d -o vmail -g vmail -m 700 /srv/mail": "install -d -m 700 /srv/mail",
    "twistd -n --pidfile= --uid=vmail --gid=vmail lmtp --port 2524 --backend maildir:/srv/mail": (
        "twistd -n --pidfile= lmtp --port 2524 --backend maildir:/srv/mail"
    ),
    "twistd -n --pidfile= --uid=vmail --gid=vmail lmtp "
    "--listen unix:/var/spool/postfix/lmtp/socket --backend maildir:/srv/mail": (
        "twistd -n --pidfile= lmtp --listen unix:/var/spool/postfix/lmtp/socket --backend maildir:/srv/mail"
    ),
    "install -d -o vmail -g postfix -m 2750 /var/spool/postfix/lmtp": "install -d -m 2750 /var/spool/postfix/lmtp",
    "twistd -n --pidfile= --uid=vmail --gid=vmail lmtp "
    "--listen unix:/var/lib/lmtp/socket --backend maildir:/srv/mail": (
        "twistd -n --pidfile= lmtp --listen unix:/var/lib/lmtp/socket --backend maildir:/srv/mail"
    ),
    "install -d -g vmail -m 750 /etc/lmtp": "install -d -m 750 /etc/lmtp",
    "chmod -R u=rwX,g=rX,o= /etc/lmtp": "chmod -R u=rwX,g=rX,o= /etc/lmtp",
    # Nothing in these is for root but the place, which is another one here.
    _PASSWORD: _PASSWORD,
    _CERTIFICATE: _CERTIFICATE,
    "twistd -n --pidfile= --uid=vmail --gid=vmail lmtp --listen tcp:2524:interface=192.0.2.1 "
    "--tls-certificate /etc/lmtp/cert.pem --tls-key /etc/lmtp/key.pem "
    "--auth file:/etc/lmtp/users --auth-required --trust 192.0.2.7 --backend maildir:/srv/mail": (
        "twistd -n --pidfile= lmtp --listen tcp:2524:interface=127.0.0.1 "
        "--tls-certificate /etc/lmtp/cert.pem --tls-key /etc/lmtp/key.pem "
        "--auth file:/etc/lmtp/users --auth-required --trust 127.0.0.1 --backend maildir:/srv/mail"
    ),
    "install -d -o vmail -g vmail -m 700 /var/lib/lmtp": "install -d -m 700 /var/lib/lmtp",
    "runuser -u vmail -- /opt/lmtp/bin/twistd lmtp --config /etc/lmtp/lmtp.toml --check": (
        "twistd lmtp --config /etc/lmtp/lmtp.toml --check"
    ),
    "runuser -u vmail -- /opt/lmtp-2/bin/twistd lmtp --config /etc/lmtp/lmtp.toml --check": (
        "twistd lmtp --config /etc/lmtp/lmtp.toml --check"
    ),
    "install -d -o vmail -g Debian-exim -m 2750 /var/lib/lmtp": "install -d -m 2750 /var/lib/lmtp",
}

_DIRECTIVE = re.compile(r"(\s*)\.\. ([a-z-]+)::\s*(.*)")
_CODE = frozenset({"code-block", "code", "sourcecode", "parsed-literal", "doctest", "testcode", "prompt", "highlight"})
_OPTION = re.compile(r"\s*:([a-z-]+):\s*(.*)")
_FENCE = re.compile(r"(```+|~~~+)\s*(.*)")
_FILE = re.compile(r"<!-- file: (\S+) -->")


@attrs.frozen
class Block:
    """
    One block of code.

    :ivar page: the file where it stands.
    :ivar line: the number of its first line there.
    :ivar language: as the page says; what is no block of a known language is called by what it looks like.
    :ivar text: its lines, without their common indentation.
    :ivar file: the name of the file that it is the content of, if it is.
    """

    page: Path
    line: int
    language: str
    text: str
    file: str | None = None

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{page}:{self.line}"


def all_pages() -> list[Path]:
    """README.md and the pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.rst"))]


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").split("\n")
    return list(_markdown(page, lines) if page.suffix == ".md" else _restructured(page, lines))


def _markdown(page: Path, lines: list[str]) -> Iterator[Block]:
    file = None
    index = 0
    while index < len(lines):
        line, index = lines[index], index + 1
        if fence := _FENCE.fullmatch(line.strip()):
            end = next(at for at in range(index, len(lines)) if lines[at].strip() == fence[1])
            yield Block(page, index + 1, fence[2], "\n".join(lines[index:end]), file)
            index, file = end + 1, None
        elif named := _FILE.fullmatch(line.strip()):
            file = named[1]
        elif line.startswith("    ") and not lines[index - 2].strip():
            yield Block(page, index, "an indented block", line)


def _restructured(page: Path, lines: list[str]) -> Iterator[Block]:
    index = 0
    while index < len(lines):
        line, index = lines[index], index + 1
        directive = _DIRECTIVE.fullmatch(line)
        options, start = {}, index
        while directive and start < len(lines) and (option := _OPTION.fullmatch(lines[start])):
            options[option[1]], start = option[2], start + 1
        if directive and directive[2] == "literalinclude":
            text = (page.parent / directive[3]).read_text(encoding="utf-8").rstrip("\n")
            yield Block(page, index, options.get("language", "an included file"), text, options.get("caption"))
        elif directive and directive[2] in _CODE:
            start, end = _indented(lines, start, len(directive[1]))
            language = directive[3] if directive[2] == "code-block" else f"the directive {directive[2]}"
            yield Block(page, start + 1, language, _dedented(lines[start:end]), options.get("caption"))
            index = end
        elif line.rstrip().endswith("::") and not line.lstrip().startswith(".."):
            start, index = _indented(lines, index, len(line) - len(line.lstrip()))
            yield Block(page, start + 1, "a literal block", _dedented(lines[start:index]))
        elif line.lstrip().startswith(">>> "):
            yield Block(page, index, "a doctest", line)


def _indented(lines: list[str], start: int, indentation: int) -> tuple[int, int]:
    """Where the lines begin and end that are indented more than so much, blank ones at both ends left out."""
    while start < len(lines) and not lines[start].strip():
        start += 1
    end = start
    for at in range(start, len(lines)):
        if lines[at].strip():
            if len(lines[at]) - len(lines[at].lstrip()) <= indentation:
                break
            end = at + 1
    return start, end


def _dedented(lines: list[str]) -> str:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines)
