"""
Makes the pictures of ``docs/status-page.rst``: ``make screenshots``.

A server takes mail that was made up for it, for as long as its charts are wide, and is then looked at. Names and
addresses are those that are reserved for documentation (RFC 2606, RFC 5737).
"""

from __future__ import annotations

import argparse
import io
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

# Ours that several directories of tests share.
sys.path[:0] = [str(Path(__file__).parents[1])]

from headless import Browser, browser  # noqa: E402  # after the path
from PIL import Image  # noqa: E402  # after the path
from running_twistd import Client, twistd  # noqa: E402  # after the path

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
#: By the name of the picture: its width, its height at the most, and the scheme.
PICTURES = {"light": (1360, 1420, "light"), "dark": (1360, 1420, "dark"), "phone": (360, 1640, "light")}
COLOURS = 256

CONFIGURATION = """
backend = "store"
route = ["*.example.com=archive"]

[backends]
store = "python:stores:store"
archive = "python:stores:archive"
"""
STORES = """
import random
from twisted.internet import reactor
from twisted.internet.task import deferLater
from lmtp_twisted import PermanentFailure, TemporaryFailure


async def store(message, recipient, median=0.006):
    await deferLater(reactor, random.lognormvariate(0, 0.7) * median + message.size / 4e6)
    local = recipient.address.local
    if local in ("jobs", "carla"):
        raise TemporaryFailure("Mailbox full", code=452, enhanced="4.2.2")
    if local in ("info-old", "hnana", "no.body"):
        raise PermanentFailure("No such recipient", code=550, enhanced="5.1.1")


async def archive(message, recipient):
    await store(message, recipient, 0.018)
"""
NAMES = ["anna", "bela.kovacs", "chen", "dmitri", "eva", "fatima", "george", "hanna", "ito", "lena", "support", "sales"]
WRONG = ["jobs", "carla", "info-old", "hnana", "no.body"]
DOMAINS = [
    "example.org",
    "example.net",
    "lists.example.com",
    "shop.example.org",
    "uni.example.edu",
    "xn--bcher-kva.example",
]
SENDERS = ["newsletter@shop.example", "anna@example.net", "cron@db3.example.org", "", "orders@example.com"]
CLIENTS = [(f"192.0.2.{10 + 7 * number}", f"mx{number + 1}.example.net") for number in range(6)]


def deliver(port: int, number: int, over: Event, begun: float) -> None:
    """One client, whose mail comes in waves as mail does, in sessions of some messages each."""
    chance = random.Random(number)
    address, name = CLIENTS[number]
    while not over.wait(1):
        # A session that was silent for too long is ended by the server.
        with suppress(OSError), Client(port) as client:
            client.say(f"XCLIENT ADDR={address}")
            client.say(f"LHLO {name}")
            for _ in range(chance.randrange(20, 200)):
                passed = time.monotonic() - begun
                busy = 1.2 + math.sin(passed / 130) + 0.4 * math.sin(passed / 31)
                if over.wait(chance.expovariate(0.6 + 2.2 * busy)):
                    break
                send(client, chance)


def send(client: Client, chance: random.Random) -> None:
    """One message."""
    client.say(f"MAIL FROM:<{chance.choice(SENDERS)}>")
    count = min(1 + int(chance.expovariate(1.1)), 6)
    for _ in range(count):
        name = chance.choice(WRONG if chance.random() < 0.03 else NAMES)
        domain = DOMAINS[min(int(chance.expovariate(0.8)), len(DOMAINS) - 1)]
        client.say(f"RCPT TO:<{name}@{domain}>")
    client.say("DATA")
    content = f"Subject: hello\r\n\r\n{'x' * 70}\r\n" + f"{'y' * 70}\r\n" * int(chance.lognormvariate(4, 1.2))
    client.send(f"{content}.\r\n")
    for _ in range(count):
        client.reply()


def pictures(port: int, page: Browser) -> Iterator[tuple[str, bytes]]:
    """Their names, and what they are as PNG."""
    for name, (width, most, scheme) in PICTURES.items():
        page.show(port, width, 900, scheme)
        page.until("return document.querySelectorAll('#failures tbody tr').length > 0")
        page.size(width, min(most, page.js("return document.documentElement.scrollHeight")))
        # The charts have been drawn for this size by then.
        last = page.js("return page.history.now")
        page.until("return page.history.now > arguments[0] + 1", last)
        yield name, page.driver.get_screenshot_as_png()
        page.close()


def main() -> None:
    """Make all of them."""
    arguments = argparse.ArgumentParser(description="Makes the pictures of docs/status-page.rst.")
    arguments.add_argument("--seconds", type=int, default=900, help="for which mail comes before (default: 900)")
    seconds = arguments.parse_args().seconds
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="screenshots-")))
        (directory / "stores.py").write_text(STORES)
        (directory / "lmtp.toml").write_text(CONFIGURATION)
        options = ["--config", "lmtp.toml", "--port", "0", "--http", "0", "--hostname", "mx.example.org"]
        options += ["--trust", "127.0.0.0/8", "--log-level", "info"]
        server = stack.enter_context(twistd(directory, *options, environment={"PYTHONPATH": str(directory)}))
        port, web = server.port, int(server.until(r"status on http://127\.0\.0\.1:(\d+)/\n")[1])
        server.drain()
        over = Event()
        begun = time.monotonic()
        clients = [Thread(target=deliver, args=(port, number, over, begun)) for number in range(len(CLIENTS))]
        for client in clients:
            client.start()
        stack.callback(lambda: [client.join() for client in clients])
        stack.callback(over.set)
        page = stack.enter_context(browser())
        over.wait(seconds)
        IMAGES.mkdir(exist_ok=True)
        for name, png in pictures(web, page):
            with Image.open(io.BytesIO(png)) as picture:
                few = picture.convert("RGB").quantize(
                    COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE
                )
            path = IMAGES / f"status-{name}.png"
            few.save(path, optimize=True)
            print(f"{path.relative_to(Path.cwd())}: {few.width} by {few.height}, {path.stat().st_size} octets")


if __name__ == "__main__":
    main()
