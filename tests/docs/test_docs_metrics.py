"""The page about metrics names what a server gives, and its alerts are rules that Prometheus takes."""

from __future__ import annotations

import re
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from docs_pages import ROOT, blocks_of
from peer_programs import find
from prometheus_client.parser import text_string_to_metric_families

PAGE = ROOT / "docs" / "metrics.rst"
_ROW = re.compile(r"^   \* - ``(\w+)``\n     - (\w+)\n     - (.*)\n     - (.*)\n", re.MULTILINE)


def described() -> dict[str, tuple[str, list[str], str]]:
    """What the table says: type, labels and description by name."""
    rows = _ROW.findall(PAGE.read_text("utf-8"))
    return {name: (kind, sorted(re.findall(r"``(\w+)``", labels)), text) for name, kind, labels, text in rows}


def test_the_table_names_all_that_a_server_can_give_and_nothing_else() -> None:
    """Each with its type, its labels and the description that Prometheus is given."""
    from lmtp_twisted.daemon.monitoring.catalogue import CATALOGUE, Kind

    table = described()
    for metric in CATALOGUE:
        name = metric.samples[0] if metric.kind is Kind.COUNTER else metric.name
        assert table.pop(name) == (metric.kind.value, sorted(metric.labels), metric.help)
    assert sorted(table) == ["lmtp_build_info", "lmtp_gathered_timestamp_seconds", "lmtp_processes", "python_info"]


def test_what_a_server_gives_is_in_the_table(tmp_path: Path) -> None:
    """As it gives it."""
    script = "from twisted.scripts.twistd import run; run()"
    arguments = ["-n", "--pidfile=", "lmtp", "--port", "0", "--http", "0", "--backend", "maildir:mail"]
    server = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert server.stdout is not None
        port = next(
            int(match[1]) for line in server.stdout if (match := re.search(rb"http://127\.0\.0\.1:(\d+)/", line))
        )
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
    finally:
        server.kill()
        server.communicate()
    table = described()
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        kind, labels, help = table[name]
        assert (family.type, family.documentation) == (kind, help)
        for sample in family.samples:
            assert sorted(sample.labels.keys() - {"le"}) == labels


@pytest.mark.peer("prometheus")
def test_prometheus_takes_the_alerts_and_the_configuration(tmp_path: Path) -> None:
    """promtool is what Prometheus reads them with."""
    configuration, rules = (block.text for block in blocks_of(PAGE) if block.language == "yaml")
    for check, name, text in (("config", "prometheus.yml", configuration), ("rules", "alerts.yml", rules)):
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            [str(find("promtool")), "check", check, name], cwd=tmp_path, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr
    table = described()
    for name in re.findall(r"lmtp_\w+", rules):
        assert name in table or name.removesuffix("_bucket") in table
