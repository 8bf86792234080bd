"""
The process that attacks: ``python -m benchmarks.abuse.attacker NAME PORT TLS_PORT PROXY_PORT SESSIONS``.

It prints a line when all sessions are where the attack wants them, goes on until something comes on its standard input,
and then prints what it did, as JSON.
"""

import asyncio
import json
import resource
import sys
import time

from benchmarks.abuse.attacks import ATTACKS
from benchmarks.abuse.clients import Field

#: Seconds that it may take until all are in place.
PATIENCE = 60.0


async def attack(name: str, port: int, tls_port: int, proxy_port: int, sessions: int) -> None:
    """Attack until told to stop."""
    (chosen,) = (attack for attack in ATTACKS if attack.name == name)
    field = Field(port, tls_port, proxy_port, sessions)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(sys.stdin, stop.set)
    started = time.monotonic()
    attacking = asyncio.ensure_future(field.all(chosen.session))
    while len(field.arrived) < sessions and time.monotonic() - started < PATIENCE and not stop.is_set():
        await asyncio.sleep(0.05)
        if attacking.done():
            attacking.result()
    print(json.dumps({"arrived": len(field.arrived), "seconds": time.monotonic() - started}), flush=True)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([attacking, stopping], return_when=asyncio.FIRST_COMPLETED)
    if attacking.done():
        attacking.result()
    print(json.dumps(field.counts), flush=True)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _, chosen_name, *numbers = sys.argv
    attack_task = attack(chosen_name, *(int(number) for number in numbers))
    try:
        asyncio.run(asyncio.wait_for(attack_task, 180))
    finally:
        sys.stdout.flush()
