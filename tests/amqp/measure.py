"""
How many deliveries a second go through ``twistd lmtp --backend amqp:…`` into a quorum queue of three nodes on this
machine: ``python tests/amqp/measure.py [lmtpload's options]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for place in (ROOT, ROOT / "tests"):
    sys.path.insert(0, str(place))

from rabbitmq_cluster import RabbitCluster  # noqa: E402
from running_twistd import twistd  # noqa: E402

from benchmarks.build import lmtpload  # noqa: E402

#: Fifty sessions, messages of 4 KiB.
LOAD = ("-s", "50", "-m", "40000", "-l", "4096", "-w", "4000")


def main(*load: str) -> None:
    """Print what lmtpload says."""
    generator = lmtpload()
    with tempfile.TemporaryDirectory(prefix="amqp-") as name:
        directory = Path(name)
        cluster = RabbitCluster(directory)
        try:
            backend = f"amqp:{cluster.url},exchange=mail,queue=mail"
            with twistd(directory, "--port", "0", "--backend", backend) as server:
                port = server.port
                server.until("connected to")
                server.drain()
                before = _processor_seconds(server.process.pid)
                subprocess.run([str(generator), "127.0.0.1", str(port), *(load or LOAD)], check=True)
                spent = _processor_seconds(server.process.pid) - before
                print(f"twistd took {spent:.1f} s of a processor; the queue's leader is {cluster.leader('mail')}")
        finally:
            cluster.close()


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(*sys.argv[1:])
