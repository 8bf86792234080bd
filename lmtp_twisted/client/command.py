"""
The client as a command: a message from standard input to a server, a line for each recipient on standard output, and an
exit status of sysexits.h by which a script can go.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from twisted.internet.task import react

from lmtp_twisted.client.addressing import make_envelope
from lmtp_twisted.client.client import deliver
from lmtp_twisted.client.endpoints import Target
from lmtp_twisted.client.sasl import Credentials, External, Password, Token
from lmtp_twisted.client.settings import ClientSettings, Security, Timeouts
from lmtp_twisted.client.tls import ClientTLS
from lmtp_twisted.errors import CommandError
from lmtp_twisted.wire.content import BareNewlines
from lmtp_twisted.wire.parameters import MailParameters, RcptParameters, parse_mail_parameters, parse_rcpt_parameters
from lmtp_twisted.wire.replies import Reply, printable

#: All were delivered. The others are those of sysexits.h.
DELIVERED = os.EX_OK
#: One failure at least may pass: the message is to be tried again for those recipients.
TEMPORARY = os.EX_TEMPFAIL
#: Nobody is left to try again, and those who got nothing do not exist.
NO_USER = os.EX_NOUSER
#: Nobody is left to try again, and somebody got nothing for another reason.
PERMANENT = os.EX_UNAVAILABLE
USAGE, NO_INPUT = os.EX_USAGE, os.EX_NOINPUT

#: What is wrong with a recipient's address (RFC 3463 §3.2, RFC 7505 §4.2). Of ``5.1.x``, others are of the sender's.
_NO_SUCH_RECIPIENT = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10"})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = _Parser(
        prog="python -m lmtp_twisted.client",
        usage="%(prog)s ENDPOINT --from ADDRESS --to ADDRESS [--to ADDRESS…] [OPTION…] < MESSAGE",
        description="Deliver the message of standard input by LMTP (RFC 2033), and say what became of each recipient.",
        epilog="Exit status: 0 all were delivered; 75 some are to be tried again; 67 those who got nothing do not "
        "exist; 69 they got nothing for another reason; 64 the command is wrong; 66 the message cannot be read.",
        allow_abbrev=False,
    )
    made.add_argument("endpoint", metavar="ENDPOINT", help="HOST:PORT, unix:PATH, tls:HOST:PORT")
    made.add_argument("--from", dest="sender", required=True, metavar="ADDRESS", help="'' for the null sender <>")
    made.add_argument("--to", action="append", required=True, metavar="ADDRESS", help="a recipient; again for more")
    made.add_argument("--mail", default="", metavar="PARAMETERS", help="of MAIL, such as 'BODY=8BITMIME RET=HDRS'")
    made.add_argument("--rcpt", default="", metavar="PARAMETERS", help="of each RCPT, such as NOTIFY=NEVER")
    made.add_argument("--hostname", metavar="NAME", help="our name, for LHLO [that of this machine]")
    made.add_argument(
        "--bare-newlines",
        choices=[one.value for one in BareNewlines],
        default=BareNewlines.NORMALISE.value,
        help="what becomes of an LF without CR [normalise]",
    )
    made.add_argument("--no-chunking", action="store_true", help="DATA, even where the server offers BDAT")
    made.add_argument("--timeout", type=float, metavar="SECONDS", help="for each wait [those of RFC 5321]")
    tls = made.add_argument_group("TLS")
    tls.add_argument(
        "--tls",
        choices=[one.value for one in Security],
        default=Security.WHERE_OFFERED.value,
        help="auto: STARTTLS where others offer it than this machine; starttls: or nothing; tls: from the first octet",
    )
    tls.add_argument("--ca", type=Path, metavar="FILE", help="authorities to trust in place of the system's, in PEM")
    tls.add_argument("--no-verify", action="store_true", help="take any certificate")
    tls.add_argument("--server-name", metavar="NAME", help="that the certificate is for [the host]")
    tls.add_argument("--certificate", type=Path, metavar="FILE", help="our own, and its key, in PEM")
    auth = made.add_argument_group("AUTH")
    auth.add_argument("--user", metavar="NAME", help="to log in as; alone: by --certificate")
    secret = auth.add_mutually_exclusive_group()
    secret.add_argument("--password-file", type=Path, metavar="FILE", help="whose first line is the password")
    secret.add_argument("--token-file", type=Path, metavar="FILE", help="whose first line is a bearer token")
    auth.add_argument("--allow-plaintext", action="store_true", help="say a password where others may listen")
    return made


def main(arguments: Sequence[str], message: BinaryIO | None = None) -> int:
    """
    :param arguments: of the command line.
    :param message: by default standard input.
    :returns: the exit status, where it is known before the message is sent.
    :raises SystemExit: with the exit status.
    """
    from twisted.internet import reactor

    options = parser().parse_args(arguments)
    try:
        # What is wrong with the command is said before the message is read.
        envelope = make_envelope(options.sender, options.to, *_parameters(options))
        settings = _settings(options)
        Target.of(options.endpoint, reactor, 1.0)
    except (ValueError, OSError) as error:
        _complain(error)
        return USAGE
    try:
        content = _seekable(message or _standard_input())
    except (ValueError, OSError) as error:
        _complain(error)
        return NO_INPUT

    async def run(reactor: Any) -> None:
        try:
            replies = await deliver(options.endpoint, envelope, content, settings=settings, reactor=reactor)
        except OSError as error:
            _complain(error)
            raise SystemExit(NO_INPUT)
        lines = [
            f"<{recipient.printable}> {reply.encoded.decode('ascii').rstrip()}"
            for recipient, reply in zip(envelope.recipients, replies, strict=True)
        ]
        if why_not := _say("\n".join(lines), sys.stdout):
            # What became of the message is still what the exit status says.
            _complain(ValueError(f"what became of the recipients cannot be written: {why_not}"))
        raise SystemExit(status_of(replies))

    react(run)
    raise AssertionError("react raises SystemExit")


def status_of(replies: Sequence[Reply]) -> int:
    """
    :param replies: of all recipients.
    :returns: the exit status that says what became of them.
    """
    refused = [reply for reply in replies if not reply.is_positive]
    if not refused:
        return DELIVERED
    if any(reply.code < 500 for reply in refused):
        return TEMPORARY
    return NO_USER if all(reply.enhanced in _NO_SUCH_RECIPIENT for reply in refused) else PERMANENT


def _parameters(options: argparse.Namespace) -> tuple[MailParameters, RcptParameters]:
    try:
        return parse_mail_parameters(options.mail.encode()), parse_rcpt_parameters(options.rcpt.encode())
    except CommandError as error:
        raise ValueError(f"parameters: {error.text}")


def _settings(options: argparse.Namespace) -> ClientSettings:
    times = Timeouts()
    if options.timeout is not None:
        seconds = options.timeout
        times = Timeouts(connect=seconds, greeting=seconds, command=seconds, data=seconds, block=seconds, final=seconds)
    given = {} if options.hostname is None else {"hostname": options.hostname}
    return ClientSettings(
        security=Security(options.tls),
        tls=ClientTLS(
            verifies=not options.no_verify,
            authorities=options.ca and options.ca.read_bytes(),
            server_name=options.server_name,
            certificate=options.certificate and options.certificate.read_bytes(),
        ),
        credentials=_credentials(options),
        allows_plaintext=options.allow_plaintext,
        bare_newlines=BareNewlines(options.bare_newlines),
        uses_chunking=not options.no_chunking,
        timeouts=times,
        max_connections=1,
        **given,
    )


def _credentials(options: argparse.Namespace) -> Credentials | None:
    secret_file = options.password_file or options.token_file
    if options.user is None:
        if secret_file is not None:
            raise ValueError("whose password? --user is missing")
        return None
    if secret_file is None:
        if options.certificate is None:
            raise ValueError("--user needs --password-file, --token-file or --certificate")
        return External(options.user)
    secret = secret_file.read_text("utf-8").split("\n")[0].rstrip("\r")
    return Password(options.user, secret) if options.password_file else Token(options.user, secret)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise ValueError("the message: standard input is closed")
    return sys.stdin.buffer


def _seekable(file: BinaryIO) -> BinaryIO:
    """The message as a file whose size is known, and that can be read twice."""
    if file.seekable():
        return file
    copy = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
    while block := file.read(1 << 16):
        copy.write(block)
    copy.seek(0)
    return copy


def _complain(error: Exception) -> None:
    text = f"{error.filename or 'the message'}: {error.strerror}" if isinstance(error, OSError) else str(error)
    _say(f"{parser().prog}: error: {printable(text)}", sys.stderr)


def _say(text: str, stream: TextIO | None) -> str:
    """Write it, and return why that failed."""
    if stream is None:
        return "it is closed"
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        # Python tries again when it ends, and where that fails it has an exit status of its own.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        return error.strerror or type(error).__name__
    return ""
