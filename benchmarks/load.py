"""The two load generators, each of which sends messages to a server and says how fast they were taken."""

import json
import select
import subprocess
import time

from attrs import frozen

from benchmarks import build
from benchmarks.process import Server

MAILBOXES = 100
PATIENCE = 60.0  # seconds beyond those that the load was to take


class LoadError(Exception):
    """The server refused, hung up or stood still; the text says which."""


@frozen
class Load:
    """
    What is sent to a server.

    :param sessions: connections at the same time.
    :param octets: the content's length.
    :param recipients: of each message.
    :param seconds: how long to send.
    :param warmup: messages that are sent before it counts.
    :param messages: how many to send at most, in that time.
    """

    sessions: int
    octets: int
    recipients: int
    seconds: float
    warmup: int
    messages: int = 1_000_000


@frozen
class Measurement:
    """
    What a load has shown.

    :param messages: that were sent and accepted.
    :param seconds: that this took.
    :param cpu_seconds: that the server's processes used for them.
    """

    messages: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


def pipelined(server: Server, load: Load) -> Measurement:
    """
    Sends with ``lmtpload``: one burst for the envelope, one for the content.

    :raises LoadError: where not every reply was the expected one.
    """
    command = [
        *(str(build.lmtpload()), "127.0.0.1", str(server.port), "-g", "-j"),
        *("-s", str(load.sessions), "-l", str(load.octets), "-r", str(load.recipients)),
        *("-m", str(load.messages), "-t", str(load.seconds)),
        *("-w", str(load.warmup), "-u", str(MAILBOXES)),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as generator:
        try:
            assert generator.stdout is not None  # it is a pipe
            if not select.select([generator.stdout], [], [], PATIENCE)[0]:
                raise LoadError("not warm in time")
            before = server.cpu_seconds()
            results, complaint = generator.communicate("\n", timeout=load.seconds + PATIENCE)
            used = server.cpu_seconds() - before
        except subprocess.TimeoutExpired:
            raise LoadError("not done in time")
        finally:
            generator.kill()
    if generator.returncode:
        raise LoadError(complaint.strip())
    values = json.loads(results.splitlines()[-1])
    return Measurement(values["messages"], values["seconds"], used)


def lockstep(server: Server, load: Load) -> Measurement:
    """
    Sends with Postfix's ``smtp-source``: one command, one reply. It counts messages, not seconds: how many it has to
    send follows from the pace of the warm-up.

    :raises LoadError: where not every reply was the expected one.
    """
    pace = load.warmup / _smtp_source(server, load, load.warmup)
    messages = min(load.messages, max(load.sessions, int(pace * load.seconds)))
    before = server.cpu_seconds()
    seconds = _smtp_source(server, load, messages)
    return Measurement(messages, seconds, server.cpu_seconds() - before)


def _smtp_source(server: Server, load: Load, messages: int) -> float:
    command = [
        *("smtp-source", "-L", "-d", "-M", "load.example.net"),
        *("-f", "sender@example.net", "-t", "u0@example.org"),
        *("-s", str(load.sessions), "-l", str(load.octets), "-r", str(load.recipients), "-m", str(messages)),
        f"127.0.0.1:{server.port}",
    ]
    start = time.monotonic()
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=load.seconds + PATIENCE,
        )
    except FileNotFoundError:
        raise LoadError("smtp-source is not installed")
    except subprocess.TimeoutExpired:
        raise LoadError("not done in time")
    except subprocess.CalledProcessError as error:
        raise LoadError(error.stderr.strip() or f"smtp-source ended with status {error.returncode}")
    return time.monotonic() - start
