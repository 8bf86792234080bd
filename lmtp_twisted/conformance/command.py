"""
The options of the kit, and its exit status: 0 where the server did all as it should, 1 where it did not, 2 where the
command line or a file is wrong, 3 where nobody is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lmtp_twisted.conformance.reading import ScenarioError, read_scenarios
from lmtp_twisted.conformance.report import as_json, row, summary
from lmtp_twisted.conformance.run import Choice, NoServer, run
from lmtp_twisted.conformance.scenario import Level, Scenario
from lmtp_twisted.conformance.settings import MECHANISMS, Settings, Target

PASSED, DEVIATIONS, USAGE, NO_SERVER = 0, 1, 2, 3

_LEVELS = {"MUST": Level.MUST, "SHOULD": Level.SHOULD, "beyond": Level.BEYOND}


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error))


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


def _octets(text: str) -> int:
    if not text.isdigit() or len(text) > 9 or int(text) > 256 * 1024 * 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of octets up to 268435456")
    return int(text)


def _word(text: str) -> str:
    if not text or not text.isprintable() or any(character in text for character in "<> "):
        raise argparse.ArgumentTypeError(f"{text!r} is no address and no name")
    return text


def _attributes(text: str) -> str:
    if not text or not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE …")
    return text


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m lmtp_twisted.conformance",
        # All of the options before each message would hide what it says.
        usage="%(prog)s [OPTION…] HOST:PORT|unix:PATH",
        description="Judge an LMTP server from outside, by RFC 2033 and what goes with it.",
        epilog="Exit status: 0 all passed or absent, 1 deviations or no session, 2 usage, 3 no connection.",
        allow_abbrev=False,
    )
    made.add_argument("target", type=_target, nargs="?", metavar="HOST:PORT|unix:PATH", help="the server")
    made.add_argument("--list", action="store_true", help="list the scenarios, and end")
    made.add_argument("--level", choices=_LEVELS, default="SHOULD", help="judge up to this level [SHOULD]")
    made.add_argument("--only", action="append", default=[], metavar="PATTERN", help="scenarios, such as 'data/*'")
    made.add_argument("--skip", action="append", default=[], metavar="PATTERN", help="leave these out")
    made.add_argument("--scenarios", action="append", type=Path, metavar="FILE", help="read this in place of the kit's")
    made.add_argument("--every-split", action="store_true", help="again for each point where octets can be cut in two")
    made.add_argument("--timeout", type=_positive, default=10.0, metavar="SECONDS", help="for each reply [10]")
    made.add_argument("--limit", type=_positive, default=900.0, metavar="SECONDS", help="for all of it [900]")
    made.add_argument("--jobs", type=_count, default=1, metavar="N", help="sessions at a time [1]")
    made.add_argument("--json", action="store_true", help="all of it as JSON")
    made.add_argument("--verbose", action="store_true", help="show the dialogue of what failed")
    mail = made.add_argument_group("mail")
    mail.add_argument(
        "--sender",
        type=_word,
        default="sender@example.net",
        metavar="ADDRESS",
        help="of all messages [sender@example.net]",
    )
    mail.add_argument(
        "--recipient",
        action="append",
        type=_word,
        metavar="ADDRESS",
        help="that the server takes mail for; three best [alice, bob, carol@example.org]",
    )
    mail.add_argument("--unknown-recipient", type=_word, metavar="ADDRESS", help="that it refuses at RCPT")
    mail.add_argument("--client-name", type=_word, default="judge.example.net", metavar="NAME", help="for LHLO")
    mail.add_argument(
        "--largest", type=_octets, default=10 * 1024 * 1024, metavar="OCTETS", help="to send, to try a limit [10 Mi]"
    )
    mail.add_argument("--idle", type=_positive, metavar="SECONDS", help="after which the server ends a silent session")
    mail.add_argument("--greeting-delay", action="store_true", help="it greets late, and sends away who does not wait")
    tls = made.add_argument_group("TLS")
    how = tls.add_mutually_exclusive_group()
    how.add_argument("--tls", action="store_true", help="from the first octet")
    how.add_argument("--starttls", action="store_true", help="in each session")
    tls.add_argument("--ca-file", type=Path, metavar="FILE", help="check the server's certificate with these")
    tls.add_argument("--server-name", type=_word, metavar="NAME", help="that its certificate is for [the host]")
    tls.add_argument("--certificate", type=Path, metavar="FILE", help="our own certificate")
    tls.add_argument("--key", type=Path, metavar="FILE", help="its key")
    auth = made.add_argument_group("AUTH")
    auth.add_argument("--user", metavar="NAME", help="who can log in")
    auth.add_argument("--password", metavar="PASSWORD", help="with this")
    auth.add_argument("--token", metavar="TOKEN", help="or with this, by XOAUTH2")
    auth.add_argument("--mechanism", action="append", choices=MECHANISMS, help="judge only this one, or these")
    auth.add_argument("--authenticate", action="store_true", help="in each session")
    auth.add_argument("--auth-required", action="store_true", help="the server takes no mail without it")
    trust = made.add_argument_group("XCLIENT, XFORWARD and PROXY")
    trust.add_argument("--untrusted", action="store_true", help="the server knows XCLIENT, XFORWARD, and not from us")
    trust.add_argument("--xclient", type=_attributes, metavar="NAME=VALUE…", help="say this in each session")
    trust.add_argument(
        "--proxy", action="append", type=int, choices=(1, 2), help="the server wants a header of this version; or both"
    )
    return made


def _settings(options: argparse.Namespace) -> Settings:
    tls = "implicit" if options.tls else "starttls" if options.starttls else "none"
    settings = Settings(
        target=options.target,
        patience=options.timeout,
        sender=options.sender,
        unknown=options.unknown_recipient,
        client=options.client_name,
        tls=tls,
        ca_file=options.ca_file,
        server_name=options.server_name,
        certificate=options.certificate,
        key=options.key,
        user=options.user,
        password=options.password,
        token=options.token,
        mechanisms=tuple(options.mechanism or MECHANISMS),
        authenticates=options.authenticate,
        auth_required=options.auth_required,
        is_untrusted=options.untrusted,
        xclient=options.xclient,
        proxy=tuple(options.proxy or ()),
        idle=options.idle,
        greeting_delay=options.greeting_delay,
        largest=options.largest,
        **({"recipients": tuple(options.recipient)} if options.recipient else {}),
    )
    settings.tls_context()
    return settings


def _list(scenarios: Sequence[Scenario]) -> None:
    width = max((len(scenario.name) for scenario in scenarios), default=0)
    for scenario in scenarios:
        needs = ", ".join(map(str, scenario.needs))
        print(f"{scenario.level!s:6}  {scenario.name:{width}}  {scenario.reference}{f'  needs {needs}' * bool(needs)}")


def main(arguments: Sequence[str]) -> int:
    """
    :param arguments: without the program's name.
    :returns: the exit status.
    """
    made = parser()
    options = made.parse_args(arguments)
    if options.authenticate and (options.user is None or (options.password is None and options.token is None)):
        made.error("--authenticate needs --user, and --password or --token")
    try:
        scenarios = read_scenarios(options.scenarios)
        choice = Choice(
            level=_LEVELS[options.level],
            only=tuple(options.only),
            skip=tuple(options.skip),
            every_split=options.every_split,
            jobs=options.jobs,
            limit=options.limit,
        )
        chosen = choice.of(scenarios)
        if not chosen:
            made.error("no scenario is left by --level, --only and --skip")
        if options.list:
            _list(chosen)
            return PASSED
        if options.target is None:
            made.error("HOST:PORT or unix:PATH is needed")
        settings = _settings(options)
    except (ScenarioError, OSError) as error:
        made.error(str(error))
    width = max(len(scenario.name) for scenario in chosen)
    try:
        done = run(
            scenarios,
            settings,
            choice,
            lambda result: (
                None if options.json else print(row(result, width, with_dialogue=options.verbose), flush=True)
            ),
        )
    except NoServer as error:
        print(f"{made.prog}: {error}", file=sys.stderr)
        return NO_SERVER
    print(as_json(done, settings) if options.json else summary(done))
    return DEVIATIONS if done.has_deviations else PASSED
