"""
``python -m benchmarks.abuse``: attack a server of its own on loopback, and see what it holds.

Each attack has a server of its own: ``twistd lmtp --backend maildir:…`` with its defaults but for what the table says.
Attackers are a process of their own. Meanwhile two well-behaved clients deliver a message five times a second: one in a
session that was there before, one with a new session for each. The peak of the server's memory and the slowest of
their answers are what counts.
"""

import argparse
import contextlib
import json
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trustme

from benchmarks import contenders
from benchmarks.abuse.attacks import ATTACKS, Attack
from benchmarks.abuse.probe import Probe
from benchmarks.abuse.record import write_record
from benchmarks.process import ROOT, Server, ServerError, end_on_sigterm, free_port

MEMORY_TARGET = 512 * 2**20
ANSWER_TARGET = 1.0
#: Seconds that attackers may take to get into place, and to stop.
PATIENCE = 75.0


def attacked(attack: Attack, sessions: int, seconds: float) -> dict[str, Any]:
    """
    Start a server, attack it, deliver meanwhile.

    :param attack: the attack.
    :param sessions: of it.
    :param seconds: that it lasts, once all are in place.
    :returns: what was seen.
    """
    directory = Path(tempfile.mkdtemp(prefix="lmtp-abuse-", dir="/var/tmp"))
    try:
        port, tls_port, proxy_port = free_port(), free_port(), free_port()
        with Server(_command(attack, directory, port, tls_port, proxy_port), port, directory) as server:
            return _observe(attack, server, (port, tls_port, proxy_port), sessions, seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _command(attack: Attack, directory: Path, port: int, tls_port: int, proxy_port: int) -> list[str]:
    certificate = directory / "certificate.pem"
    trustme.CA().issue_cert("mx.example").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    (directory / "passwords").write_text("alice:secret\n")
    command = contenders.twistd(
        port,
        directory,
        f"maildir:{directory}/mail",
        *("--listen-tls", f"tcp:{tls_port}:interface=127.0.0.1"),
        *("--listen", f"haproxy:tcp:{proxy_port}:interface=127.0.0.1"),
        *("--tls-certificate", str(certificate), "--auth", f"file:{directory}/passwords", "--auth-insecure"),
        *("--route", "*@null.example=null:", "--route", f"*@slow.example=maildir:{directory}/slow"),
        *attack.options,
    )
    return [sys.executable, "-m", "benchmarks.abuse.slow_disk", *command[1:]] if attack.has_slow_disk else command


def _observe(
    attack: Attack, server: Server, ports: tuple[int, int, int], sessions: int, seconds: float
) -> dict[str, Any]:
    probes = [Probe(ports[0], is_new=False)] + ([Probe(ports[0], is_new=True)] if attack.leaves_room else [])
    server.reset_peak()
    before = server.memory("VmRSS")
    for probe in probes:
        probe.start()
    command = [sys.executable, "-m", "benchmarks.abuse.attacker", attack.name, *map(str, ports), str(sessions)]
    pipe = subprocess.PIPE
    attacker = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    try:
        place = _line(attacker.stdout)
        used, started = server.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        busy = (server.cpu_seconds() - used) / (time.monotonic() - started)
        for probe in probes:
            probe.stop()
        peak = server.memory("VmHWM")
        with contextlib.suppress(BrokenPipeError):
            print(file=attacker.stdin, flush=True)
        counts = _line(attacker.stdout)
    finally:
        attacker.kill()
        attacker.wait()
        for end in (attacker.stdin, attacker.stdout):
            with contextlib.suppress(BrokenPipeError):
                end.close()  # type: ignore[union-attr]  # both are pipes
    old, *new = probes
    return {
        "attack": attack.name,
        "does": attack.does,
        "options": list(attack.options),
        "sessions": sessions,
        "arrived": place.get("arrived"),
        "before": before,
        "peak": peak,
        "messages": [len(probe.answers) for probe in probes],
        "worst": old.worst,
        "worst_new": new[0].worst if new else None,
        "failures": old.failures + [failure for probe in new for failure in probe.failures],
        "processor": busy,
        "counts": counts,
        "last_words": server.last_words(),
    }


def _line(output: Any) -> dict[str, Any]:
    if not select.select([output], [], [], PATIENCE)[0]:
        return {}
    line = output.readline()
    return json.loads(line) if line else {}


def held(result: dict[str, Any]) -> bool:
    """Whether the server kept within the targets."""
    return (
        result["peak"] < MEMORY_TARGET
        and result["worst"] < ANSWER_TARGET
        and (result["worst_new"] or 0.0) < ANSWER_TARGET
        and not result["failures"]
    )


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line; ends the process where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.abuse", description="What a server holds.")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(attack.name for attack in ATTACKS)}")
    parser.add_argument("--sessions", type=int, metavar="N", help="of each attack, instead of its own number")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each attack, instead of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was seen")
    parsed = parser.parse_args(arguments)
    names = parsed.only.split(",") if parsed.only else [attack.name for attack in ATTACKS]
    if unknown := set(names) - {attack.name for attack in ATTACKS}:
        parser.error(f"no attack is called {', '.join(sorted(unknown))}")
    parsed.attacks = [attack for attack in ATTACKS if attack.name in names]
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Runs what the command line asks for.

    :returns: the exit status: 1 where the server did not hold.
    """
    parsed = options(arguments)
    end_on_sigterm()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{'':<17}{'sessions':>9}{'peak MiB':>10}{'worst s':>9}{'new s':>8}{'processor':>11}")
    results = []
    for attack in parsed.attacks:
        try:
            result = attacked(attack, parsed.sessions or attack.sessions, parsed.seconds or attack.seconds)
        except ServerError as error:
            print(f"{attack.name:<17}failed: {error}")
            return 1
        results.append(result)
        new = "" if result["worst_new"] is None else f"{result['worst_new']:.3f}"
        print(
            f"{attack.name:<17}{result['arrived'] or 0:>9}{result['peak'] / 2**20:>10.1f}"
            f"{result['worst']:>9.3f}{new:>8}"
            f"{result['processor']:>10.0%}  {'held' if held(result) else 'NOT HELD'}"
            f"  {'; '.join(sorted(set(result['failures'])))[:200]} {json.dumps(result['counts'])}",
            flush=True,
        )
    if parsed.json:
        write_record(parsed.json, "python -m benchmarks.abuse", arguments, {"attacks": results})
    return 0 if all(held(result) for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
