"""What is compared: each load, which servers take it, and how many times faster than a peer ours has to be."""

from collections.abc import Callable

from attrs import frozen

from benchmarks.load import Load, Measurement, lockstep, pipelined
from benchmarks.process import Server

NULL = ("library-null", "twistd-null", "twistd-null-workers2", "smtp-sink", "go-smtp", "smtp-server", "aiosmtpd")
LOGGING = ("twistd-null-silent", "twistd-null", "twistd-null-json")
MAILDIR = ("twistd-maildir", "twistd-maildir-workers2", "dovecot", "bare-calls")


@frozen
class Scenario:
    """
    One load for several servers.

    :param name: for the command line.
    :param title: for the table.
    :param generator: what sends it.
    :param load: what is sent.
    :param servers: who takes it, as named in :mod:`benchmarks.contenders`; the others are compared with the first.
    """

    name: str
    title: str
    generator: Callable[[Server, Load], Measurement]
    load: Load
    servers: tuple[str, ...]


@frozen
class Target:
    """In this scenario our server has to be so many times as fast as the other one."""

    scenario: str
    server: str
    other: str
    factor: float


def _load(recipients: int, *, octets: int = 4096, sessions: int = 10, warmup: int = 2000) -> Load:
    return Load(sessions=sessions, octets=octets, recipients=recipients, seconds=2.0, warmup=warmup)


def _kept(recipients: int, sessions: int, octets: int = 4096) -> Scenario:
    is_large = octets > 4096
    people = f"{recipients} recipient{'s' if recipients > 1 else ''}"
    return Scenario(
        f"maildir-{'1mb' if is_large else recipients}{'-50' if sessions == 50 else ''}",
        f"{'1 MB' if is_large else '4 KiB'} to {people}, pipelined, kept in 100 Maildirs",
        pipelined,
        _load(recipients, octets=octets, sessions=sessions, warmup=100 if is_large else 200),
        MAILDIR,
    )


SCENARIOS = (
    Scenario("null-1", "4 KiB to 1 recipient, pipelined, forgotten", pipelined, _load(1), NULL),
    Scenario("null-5", "4 KiB to 5 recipients, pipelined, forgotten", pipelined, _load(5), NULL),
    Scenario(
        "null-1mb",
        "1 MB to 1 recipient, pipelined, forgotten",
        pipelined,
        _load(1, octets=1_000_000, sessions=4, warmup=20),
        NULL,
    ),
    Scenario("lockstep", "4 KiB to 1 recipient, lock-step (smtp-source), forgotten", lockstep, _load(1), NULL),
    Scenario(
        "log-1", "4 KiB to 1 recipient, forgotten; without a log, with text, with JSON", pipelined, _load(1), LOGGING
    ),
    Scenario("log-5", "4 KiB to 5 recipients, the same", pipelined, _load(5), LOGGING),
    *(_kept(recipients, sessions) for sessions in (10, 50) for recipients in (1, 5)),
    *(_kept(1, sessions, octets=1_000_000) for sessions in (10, 50)),
)

TARGETS = (
    Target("null-1", "library-null", "go-smtp", 0.9),
    Target("null-5", "library-null", "go-smtp", 1.3),
    Target("null-1mb", "library-null", "go-smtp", 1.6),
    Target("null-1", "library-null", "smtp-server", 1.6),
    Target("null-5", "library-null", "smtp-server", 3.0),
    Target("null-1mb", "library-null", "smtp-server", 1.3),
    Target("null-1", "library-null", "smtp-sink", 0.5),
    Target("null-5", "library-null", "smtp-sink", 0.5),
    Target("null-1", "twistd-null", "library-null", 0.7),
    Target("null-5", "twistd-null", "library-null", 0.7),
    Target("maildir-1", "twistd-maildir", "dovecot", 4.0),
    Target("maildir-1-50", "twistd-maildir", "dovecot", 4.0),
    Target("maildir-5", "twistd-maildir", "dovecot", 8.0),
    Target("maildir-5-50", "twistd-maildir", "dovecot", 8.0),
    Target("maildir-1mb", "twistd-maildir", "dovecot", 1.8),
    Target("maildir-1mb-50", "twistd-maildir", "dovecot", 1.8),
)
