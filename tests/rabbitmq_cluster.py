"""
A RabbitMQ cluster of three nodes of our own: ports of loopback, all files below one directory, and an epmd of its own
that ends with it. Nodes can be killed and come back.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pika
import trustme

#: The programs themselves: what is in the path becomes another user first.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")
#: Seconds that anything may take.
PATIENCE = 60.0

#: Who may do everything, but only with this password.
USER, PASSWORD = "mailer", "p:ss/word"
#: The same as it stands in a URL.
LOGIN = "mailer:p%3Ass%2Fword"

_CONFIGURATION = """\
listeners.tcp.default = 127.0.0.1:{port}
listeners.ssl.default = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {directory}/ca.pem
ssl_options.certfile = {directory}/server.pem
ssl_options.keyfile = {directory}/server.pem
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = a@localhost
vm_memory_high_watermark.absolute = 400MB
disk_free_limit.absolute = 10MB
default_user = {user}
default_pass = {password}
log.console = false
log.file.level = warning
"""


@attrs.define(eq=False)
class RabbitNode:
    """
    One node.

    :ivar name: ``a``, ``b`` or ``c``.
    :ivar directory: of all its files.
    :ivar environment: what it is started with.
    :ivar port: for AMQP.
    :ivar tls_port: for AMQP over TLS.
    """

    name: str
    directory: Path
    environment: Mapping[str, str]
    port: int
    tls_port: int
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; see :meth:`wait`."""
        self._process = subprocess.Popen(
            [str(PROGRAMS / "rabbitmq-server")],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own, so that all of it can be killed.
            start_new_session=True,
        )

    def wait(self) -> None:
        """Until it takes connections."""
        assert self._process is not None
        assert self._process.stdout is not None
        output, deadline = b"", time.monotonic() + PATIENCE
        while not re.search(rb"completed with \d+ plugins", output):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert data, f"node {self.name} does not start:\n{output.decode()}\n{self._logs()}"
            output += data

    def _logs(self) -> str:
        return "\n".join(path.read_text("utf-8", "replace")[-3000:] for path in self.directory.glob("*.log"))

    def send_signal(self, number: signal.Signals) -> None:
        """To all of its processes: it stands still by SIGSTOP, and goes on by SIGCONT."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """By SIGKILL, as a loss of power would end it."""
        if self._process is not None:
            process, self._process = self._process, None
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


class RabbitCluster:
    """
    :param directory: of all files of all nodes.
    :ivar nodes: by name.
    :ivar authority: has issued the certificate of all nodes, which is for 127.0.0.1.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / ".erlang.cookie").write_text("thiscookieisforthetestsalone")
        (directory / ".erlang.cookie").chmod(0o400)
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        self.authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(directory / "server.pem")
        )
        ports = _free_ports(10)
        self._epmd_port = ports.pop()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))},
            "HOME": str(directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
        }
        self.nodes = {name: self._node(name, ports.pop(), ports.pop(), ports.pop()) for name in "abc"}
        self._epmd = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _node(self, name: str, port: int, tls_port: int, distribution_port: int) -> RabbitNode:
        directory = self.directory / name
        directory.mkdir()
        (directory / "rabbitmq.conf").write_text(
            _CONFIGURATION.format(port=port, tls_port=tls_port, directory=self.directory, user=USER, password=PASSWORD)
        )
        environment = {
            **self._environment,
            "RABBITMQ_NODENAME": f"{name}@localhost",
            "RABBITMQ_MNESIA_BASE": str(directory),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            # Idle schedulers sleep: three nodes and the tests share few processors.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        return RabbitNode(name, directory, environment, port, tls_port)

    def _start(self) -> None:
        first, *others = self.nodes.values()
        first.start()
        first.wait()
        for node in others:
            node.start()
        for node in others:
            node.wait()
        assert len(json.loads(self.ctl("cluster_status", "--formatter", "json"))["running_nodes"]) == len(self.nodes)

    @property
    def hosts(self) -> str:
        """The nodes as they stand in a URL."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes.values())

    @property
    def url(self) -> str:
        """What ``amqp:`` takes, with the password."""
        return f"amqp://{LOGIN}@{self.hosts}"

    def url_of(self, node: str) -> str:
        """The same with one node alone."""
        return f"amqp://{LOGIN}@127.0.0.1:{self.nodes[node].port}"

    def ctl(self, *arguments: str, node: str = "a") -> str:
        """What ``rabbitmqctl`` prints."""
        command = [str(PROGRAMS / "rabbitmqctl"), "--quiet", "-n", f"{node}@localhost", *arguments]
        done = subprocess.run(
            command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def leader(self, queue: str, node: str = "a") -> str:
        """The name of the node that leads a quorum queue."""
        listed = json.loads(self.ctl("list_queues", "name", "leader", "--formatter", "json", node=node))
        (leader,) = [entry["leader"] for entry in listed if entry["name"] == queue]
        return str(leader).partition("@")[0]

    def serving(self) -> str:
        """The name of the node that the only client there is is connected to."""
        (connection,) = json.loads(self.ctl("list_connections", "port", "--formatter", "json"))
        (name,) = [node.name for node in self.nodes.values() if node.port == connection["port"]]
        return name

    def contents(self, queue: str, node: str = "a") -> list[tuple[pika.BasicProperties, bytes]]:
        """Takes all messages out of a queue: each with its properties."""
        taken = []
        with self.channel(node) as channel:
            channel.basic_qos(prefetch_count=500)
            for method, properties, body in channel.consume(queue, inactivity_timeout=0.2):
                if method is not None:
                    taken.append((properties, body))
                    channel.basic_ack(method.delivery_tag)
                elif channel.queue_declare(queue, passive=True).method.message_count == 0:
                    break
        return taken

    @contextmanager
    def channel(self, node: str = "a") -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        """A channel of a client that blocks."""
        parameters = pika.ConnectionParameters(
            "127.0.0.1", self.nodes[node].port, credentials=pika.PlainCredentials(USER, PASSWORD)
        )
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def close(self) -> None:
        """End all of it."""
        for node in self.nodes.values():
            node.kill()
        self._epmd.kill()
        self._epmd.wait()


def _free_ports(number: int) -> list[int]:
    """All are free at the same time, so they are different ones."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]
