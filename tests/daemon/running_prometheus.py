"""A real Prometheus that scrapes one server once a second."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from peer_programs import find
from running_twistd import PATIENCE, Running

_CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: lmtp
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


class Prometheus(Running):
    """
    :param directory: where it keeps what it has.
    :param target: the port of what it asks.
    """

    def __init__(self, directory: Path, target: int) -> None:
        configuration = directory / "prometheus.yml"
        configuration.write_text(_CONFIGURATION.format(port=target))
        command = [
            str(find("prometheus")),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        super().__init__(command, directory, stderr=subprocess.STDOUT)

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self.until(r"address=127\.0\.0\.1:([1-9]\d*)")[1])

    def value(self, query: str) -> float | None:
        """What a query of one number gives now."""
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?query={quote(query)}", timeout=PATIENCE) as answer:
            result = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else None


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[Prometheus]:
    """One that does not outlive the block."""
    directory.mkdir()
    running = Prometheus(directory, target)
    try:
        yield running
    finally:
        running.kill()
