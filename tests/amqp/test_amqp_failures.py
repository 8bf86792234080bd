"""Each row of the table of failures in docs/amqp.rst happens, and the client is told what the row says."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rabbitmq_cluster import USER, RabbitCluster
from running_twistd import PATIENCE, Client, Twistd, twistd

pytestmark = pytest.mark.peer("rabbitmq")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "amqp.rst"
TABLE = PAGE.read_text("utf-8").partition("What the client is told\n")[2].partition("When nodes fail\n")[0]
#: What happens, and the reply.
ROWS = re.findall(r"    \* - (.+)\n      - ``(\d{3} \d\.\d\.\d)``\n", TABLE)

NOBODY = "amqp://127.0.0.1:1"


@contextmanager
def served(directory: Path, backend: str) -> Iterator[tuple[Twistd, Client]]:
    """A client that has said LHLO to a server."""
    with twistd(directory, "--port", "0", "--backend", f"amqp:{backend}") as server, Client(server.port) as client:
        assert client.say("LHLO client.example").startswith("250 ")
        yield server, client


def send(client: Client, recipient: str = "alice@example.org", content: str = "Subject: x\r\n\r\nx\r\n") -> str:
    """A message up to the first no; what the last reply was."""
    for command in ("MAIL FROM:<>", f"RCPT TO:<{recipient}>", "DATA"):
        reply = client.say(command)
        if reply[0] not in "23":
            assert client.say("RSET").startswith("250 ")
            return reply
    client.send(f"{content}.\r\n")
    return client.reply()


def until_told(client: Client, expected: str, accepted: list[str]) -> str:
    """Send until the reply begins so; what comes before must be a 250, and is put with the others that got it."""
    deadline = time.monotonic() + PATIENCE
    while not (reply := send(client)).startswith(expected):
        assert reply.startswith("250 "), reply
        assert time.monotonic() < deadline
        accepted.append(reply)
    return reply


def down_at_start(rabbitmq: RabbitCluster, directory: Path) -> str:
    with served(directory, f"{NOBODY},queue=mail") as (_, client):
        # Either it waited for the first attempt, or that was over.
        assert send(client).startswith("451 4.4.1 ")
        return client.say("MAIL FROM:<>")


def down_later(rabbitmq: RabbitCluster, directory: Path) -> str:
    node = rabbitmq.nodes["c"]
    with served(directory, f"{rabbitmq.url_of('c')},queue=later") as (server, client):
        assert send(client).startswith("250 ")
        node.kill()
        server.until("lost the connection")
        server.until("cannot connect")
        try:
            return client.say("MAIL FROM:<>")
        finally:
            node.start()
            node.wait()
            server.until("connected to .*\n(.*\n)*.*connected to ")
            # It takes mail again, by itself.
            assert client.say("RSET").startswith("250 ")
            assert send(client).startswith("250 ")


def wrong_password(rabbitmq: RabbitCluster, directory: Path) -> str:
    url = f"amqp://{USER}:wrong-as-can-be@{rabbitmq.hosts}"
    with served(directory, f"{url},queue=mail") as (server, client):
        server.until("cannot connect to .*ACCESS_REFUSED")
        send(client)
        reply = client.say("MAIL FROM:<>")
    assert "wrong-as-can-be" not in server.output
    return reply


def no_exchange(rabbitmq: RabbitCluster, directory: Path) -> str:
    with served(directory, f"{rabbitmq.url},exchange=nowhere") as (server, client):
        server.until("cannot connect to .*no exchange 'nowhere'")
        send(client)
        return client.say("MAIL FROM:<>")


def lost(rabbitmq: RabbitCluster, directory: Path) -> str:
    node = rabbitmq.nodes["b"]
    with served(directory, f"{rabbitmq.url_of('b')},queue=lost") as (_, client):
        assert send(client).startswith("250 ")
        node.send_signal(signal.SIGSTOP)
        client.begin("alice@example.org")
        client.send("Subject: never answered\r\n\r\n.\r\n")
        node.kill()
        try:
            return client.reply()
        finally:
            node.start()
            node.wait()


def late(rabbitmq: RabbitCluster, directory: Path) -> str:
    node = rabbitmq.nodes["b"]
    with served(directory, f"{rabbitmq.url_of('b')},queue=late,timeout=1") as (_, client):
        assert send(client).startswith("250 ")
        node.send_signal(signal.SIGSTOP)
        try:
            return send(client)
        finally:
            node.send_signal(signal.SIGCONT)


def unroutable(rabbitmq: RabbitCluster, directory: Path) -> str:
    with rabbitmq.channel() as channel:
        channel.exchange_declare("bare", "topic", durable=True)
    with served(directory, f"{rabbitmq.url},exchange=bare") as (_, client):
        return send(client)


def full(rabbitmq: RabbitCluster, directory: Path) -> str:
    accepted: list[str] = []
    rabbitmq.ctl("set_policy", "full", "^full$", '{"max-length":3,"overflow":"reject-publish"}', "--apply-to", "queues")
    with served(directory, f"{rabbitmq.url},queue=full") as (_, client):
        reply = until_told(client, "451 4.3.0 ", accepted)
        assert len(rabbitmq.contents("full")) == len(accepted) >= 3
        # And when there is room again, it takes mail again.
        deadline = time.monotonic() + PATIENCE
        while not send(client).startswith("250 "):
            assert time.monotonic() < deadline
    return reply


def alarm(rabbitmq: RabbitCluster, directory: Path) -> str:
    accepted: list[str] = []
    with served(directory, f"{rabbitmq.url},queue=alarm") as (server, client):
        assert send(client).startswith("250 ")
        rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            # What was published when the alarm came, and then at MAIL.
            until_told(client, "451 4.3.1 ", accepted)
            reply = client.say("MAIL FROM:<>")
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "400MB")
        server.until("takes messages again")
        assert client.say("RSET").startswith("250 ")
        assert send(client).startswith("250 ")
    # That one may be there as well.
    assert len(rabbitmq.contents("alarm")) - len(accepted) in (2, 3)
    return reply


def busy(rabbitmq: RabbitCluster, directory: Path) -> str:
    recipients = [f"r{number}@example.org" for number in range(1000)]
    node = rabbitmq.nodes["b"]
    with served(directory, f"{rabbitmq.url_of('b')},queue=busy,timeout=10") as (server, first):
        assert send(first).startswith("250 ")
        node.send_signal(signal.SIGSTOP)
        try:
            with Client(server.port) as second, Client(server.port) as third:
                for client in (first, second):
                    client.begin(*recipients)
                    client.send("Subject: many\r\n\r\n.\r\n")
                third.say("LHLO client.example")
                deadline = time.monotonic() + PATIENCE
                while (reply := third.say("MAIL FROM:<>")).startswith("250 "):
                    assert third.say("RSET").startswith("250 ")
                    assert time.monotonic() < deadline
                node.send_signal(signal.SIGCONT)
                replies = {client.reply()[:3] for client in (first, second) for _ in recipients}
                assert replies == {"250"}
                return reply
        finally:
            node.send_signal(signal.SIGCONT)


def announced(rabbitmq: RabbitCluster, directory: Path) -> str:
    with served(directory, f"{rabbitmq.url},queue=small,size_limit=1k") as (_, client):
        assert client.say("MAIL FROM:<> SIZE=1024").startswith("250 ")
        assert client.say("RCPT TO:<alice@example.org>").startswith("250 ")
        assert client.say("RSET").startswith("250 ")
        assert client.say("MAIL FROM:<> SIZE=1025").startswith("250 ")
        return client.say("RCPT TO:<alice@example.org>")


def too_large(rabbitmq: RabbitCluster, directory: Path) -> str:
    with served(directory, f"{rabbitmq.url},queue=small,size_limit=1k") as (_, client):
        assert send(client, content="x" * 1022 + "\r\n").startswith("250 ")
        return send(client, content="x" * 1023 + "\r\n")


def long_key(rabbitmq: RabbitCluster, directory: Path) -> str:
    with served(directory, f"{rabbitmq.url},exchange=mail,queue=mail") as (_, client):
        return send(client, recipient=f"{'a.' * 80}a@example.org")


SCENARIOS: dict[str, Callable[[RabbitCluster, Path], str]] = {
    "no node can be reached when the server starts": down_at_start,
    "the nodes go down later": down_later,
    "the password is wrong": wrong_password,
    "the exchange does not exist": no_exchange,
    "the connection is lost before the confirm": lost,
    "no confirm comes within ``timeout``": late,
    "no queue is bound for the recipient's key": unroutable,
    "the broker says no, as where a queue is full (``overflow: reject-publish``)": full,
    "the broker is short of memory or disk (an alarm)": alarm,
    "too much waits already": busy,
    "the client announces more than ``size_limit``": announced,
    "the message has more than ``size_limit``": too_large,
    "the routing key would be too long": long_key,
}


def test_every_row_has_a_scenario() -> None:
    """And every scenario a row."""
    assert {what for what, _ in ROWS} == SCENARIOS.keys()


@pytest.mark.parametrize(("what", "expected"), ROWS)
def test_the_client_is_told_what_the_row_says(
    rabbitmq: RabbitCluster, tmp_path: Path, what: str, expected: str
) -> None:
    """On a real cluster, through a real server."""
    reply = SCENARIOS[what](rabbitmq, tmp_path)
    assert reply.startswith(f"{expected} "), reply
