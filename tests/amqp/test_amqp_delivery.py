"""Mail goes through a real ``twistd lmtp`` into the queues of a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from rabbitmq_cluster import LOGIN, RabbitCluster
from running_twistd import Client, twistd

pytestmark = pytest.mark.peer("rabbitmq")

CONTENT = "Subject: hello\r\n\r\nA line\r\n..\r\n" + "x" * 900 + "\r\n"
#: As it is without the dot-stuffing.
OCTETS = CONTENT.replace("\r\n..\r\n", "\r\n.\r\n").encode()


def test_each_recipient_has_a_message_of_its_own_with_envelope_and_session(
    rabbitmq: RabbitCluster, tmp_path: Path
) -> None:
    """The body is the content as received, byte for byte."""
    with twistd(tmp_path, "--port", "0", "--backend", f"amqp:{rabbitmq.url},exchange=first,queue=first") as server:
        with Client(server.port) as client:
            for command in ["LHLO client.example", "MAIL FROM:<you@example.net> BODY=8BITMIME RET=HDRS ENVID=a+2Bb"]:
                assert client.say(command).startswith("250 ")
            assert client.say("RCPT TO:<Alice.A@Example.org> NOTIFY=DELAY,FAILURE ORCPT=rfc822;al@x").startswith("250 ")
            assert client.say('RCPT TO:<"b#*% b"@example.org>').startswith("250 ")
            assert client.say("DATA").startswith("354 ")
            client.send(f"{CONTENT}.\r\n")
            replies = [client.reply(), client.reply()]
        assert [reply[:9] for reply in replies] == ["250 2.0.0"] * 2
    (alice, body), (bob, other) = sorted(rabbitmq.contents("first"), key=lambda found: found[0].message_id)
    assert body == other == OCTETS
    id = replies[0].split()[3].rpartition(".")[0]
    assert alice.message_id.startswith(f"{id}.")
    assert alice.content_type == "message/rfc822"
    assert alice.delivery_mode == 2
    received = alice.headers.pop("received")
    assert received.startswith("Received: from client.example ([127.0.0.1])\r\n")
    assert received.endswith("\r\n")
    session = id.partition(".")[0]
    common = {"sender": "you@example.net", "session": session, "peer": "127.0.0.1", "lhlo": "client.example"}
    common |= {"body": "8BITMIME", "ret": "HDRS", "envid": "a+b"}
    own = {"recipient": "Alice.A@Example.org", "notify": "FAILURE,DELAY", "orcpt": "rfc822;al@x"}
    assert alice.headers == common | own
    assert bob.headers["recipient"] == '"b#*% b"@example.org'


def test_a_queue_that_is_made_is_a_quorum_queue_on_all_nodes(rabbitmq: RabbitCluster, tmp_path: Path) -> None:
    """It is durable, and so is its exchange."""
    with (
        twistd(tmp_path, "--port", "0", "--backend", f"amqp:{rabbitmq.url},queue=made") as server,
        Client(server.port) as client,
    ):
        assert client.deliver("alice@example.org")[0].startswith("250 ")
    listed = rabbitmq.ctl("list_queues", "name", "durable", "type", "members").splitlines()
    (line,) = [line for line in listed if line.startswith("made\t")]
    assert line.split("\t")[1:3] == ["true", "quorum"]
    assert all(f"{name}@localhost" in line for name in "abc")
    assert len(rabbitmq.contents("made")) == 1


def test_the_routing_key_says_which_queue_gets_a_message(rabbitmq: RabbitCluster, tmp_path: Path) -> None:
    """A local part is one word, whatever is in it; what no queue takes is refused for that recipient alone."""
    with rabbitmq.channel() as channel:
        channel.exchange_declare("routed", "topic", durable=True)
        for queue, key in [("routed-org", "example.org.*"), ("routed-sub", "b.example.org.*")]:
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(queue, "routed", key)
    with (
        twistd(tmp_path, "--port", "0", "--backend", f"amqp:{rabbitmq.url},exchange=routed") as server,
        Client(server.port) as client,
    ):
        recipients = ["a.b.c@example.org", "x@b.example.org", "x@elsewhere.example", "#@example.org"]
        replies = client.deliver(*recipients)
    assert [reply[:9] for reply in replies] == ["250 2.0.0", "250 2.0.0", "451 4.4.4", "250 2.0.0"]
    assert [found.headers["recipient"] for found, _ in rabbitmq.contents("routed-org")] == [
        "a.b.c@example.org",
        "#@example.org",
    ]
    assert len(rabbitmq.contents("routed-sub")) == 1


def test_confirms_of_many_and_returned_messages_between_them_are_told_apart(
    rabbitmq: RabbitCluster, tmp_path: Path
) -> None:
    """RabbitMQ confirms many with one acknowledgement, and returns come before it: pika alone mixes them up."""
    with rabbitmq.channel() as channel:
        channel.exchange_declare("mixed", "topic", durable=True)
        channel.queue_declare("mixed", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind("mixed", "mixed", "good.example.*")
    recipients = [f"r{number}@{'bad' if number % 3 else 'good'}.example" for number in range(300)]
    with (
        twistd(tmp_path, "--port", "0", "--backend", f"amqp:{rabbitmq.url},exchange=mixed") as server,
        Client(server.port) as client,
    ):
        replies = client.deliver(*recipients)
    for recipient, reply in zip(recipients, replies, strict=True):
        assert reply.startswith("250 2.0.0 " if "good" in recipient else "451 4.4.4 "), reply
        assert f"<{recipient}>" in reply
    assert sorted(found.headers["recipient"] for found, _ in rabbitmq.contents("mixed")) == sorted(
        recipient for recipient in recipients if "good" in recipient
    )


def test_large_messages_are_published_whole(rabbitmq: RabbitCluster, tmp_path: Path) -> None:
    """What lies in a file, and is cut into many frames."""
    content = "".join(f"{number:077}\r\n" for number in range(40_000))
    with (
        twistd(tmp_path, "--port", "0", "--backend", f"amqp:{rabbitmq.url},queue=large") as server,
        Client(server.port) as client,
    ):
        replies = client.deliver("alice@example.org", "bob@example.org", content=content)
    assert [reply[:9] for reply in replies] == ["250 2.0.0"] * 2
    assert [body for _, body in rabbitmq.contents("large")] == [content.encode()] * 2


def test_over_tls_the_certificate_is_verified(rabbitmq: RabbitCluster, tmp_path: Path) -> None:
    """By the authority that the operator names."""
    url = f"amqps://{LOGIN}@127.0.0.1:{rabbitmq.nodes['a'].tls_port}"
    backend = f"amqp:{url},queue=tls,ca={rabbitmq.directory}/ca.pem"
    with twistd(tmp_path, "--port", "0", "--backend", backend) as server, Client(server.port) as client:
        assert client.deliver("alice@example.org")[0].startswith("250 ")
    assert len(rabbitmq.contents("tls")) == 1


@pytest.mark.parametrize(
    ("host", "ca"), [("localhost", ",ca={directory}/ca.pem"), ("127.0.0.1", "")], ids=["other host", "other authority"]
)
def test_over_tls_nothing_is_said_to_who_has_another_certificate(
    rabbitmq: RabbitCluster, tmp_path: Path, host: str, ca: str
) -> None:
    """The cluster's is for 127.0.0.1, by an authority that no system knows."""
    url = f"amqps://{LOGIN}@{host}:{rabbitmq.nodes['a'].tls_port}"
    backend = f"amqp:{url},queue=untrusted{ca.format(directory=rabbitmq.directory)}"
    with twistd(tmp_path, "--port", "0", "--backend", backend) as server:
        server.until("cannot connect to .*(VerificationError|certificate verify failed)")
        with Client(server.port) as client:
            client.say("LHLO client")
            assert client.say("MAIL FROM:<>").startswith("451 4.4.1 ")
    assert "untrusted" not in rabbitmq.ctl("list_queues", "name")
