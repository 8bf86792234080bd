"""``/metrics`` and how ``--http`` answers, of real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from peer_programs import find
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from running_prometheus import prometheus
from running_twistd import PATIENCE, TWISTD, Client, Twistd, twistd

from lmtp_twisted.daemon.web.channel import MOST_CONNECTIONS

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def http_port(server: Twistd) -> int:
    """Where it says its status is."""
    return int(server.until(r"status on http://127\.0\.0\.1:(\d+)/\n")[1])


def ask(port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> HTTPResponse:
    """The answer to a request, read to its end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.text = response.read().decode()  # type: ignore[attr-defined]
        return response
    finally:
        connection.close()


def samples(text: str, parse: Any = parse_text) -> dict[tuple[str, ...], float]:
    """The numbers of a page by their name and the values of their labels, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def metrics(port: int) -> dict[tuple[str, ...], float]:
    """What there is now: of a second that had not begun when this was called."""
    called = int(time.time())
    deadline = time.monotonic() + PATIENCE
    while True:
        found = samples(ask(port, "/metrics").text)  # type: ignore[attr-defined]
        if found["lmtp_gathered_timestamp_seconds",] > called:
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def monitored(directory: Path, *arguments: str, **options: Any) -> Iterator[tuple[Twistd, int]]:
    """A server with ``--http``, and the port of that."""
    with twistd(directory, "--port", "0", "--http", "0", *arguments, **options) as server:
        server.port  # noqa: B018  # it listens there first
        yield server, http_port(server)


def test_what_was_sent_is_what_is_counted(tmp_path: Path) -> None:
    """By both formats."""
    with monitored(tmp_path, "--backend", "null:", "--size-limit", "1K") as (server, web):
        with Client(server.port) as client:
            assert client.deliver("b@example.org", "c@example.org")[0].startswith("250 ")
            client.say("RSET")
            client.begin("d@example.org")
            client.send("x" * 2000 + "\r\n.\r\n")
            assert client.reply().startswith("552 ")
            found = metrics(web)
            assert found["lmtp_sessions_open",] == found["lmtp_sessions_total",] == found["lmtp_processes",] == 1
        expected = {
            ("lmtp_commands_total", "MAIL"): 2,
            ("lmtp_commands_total", "RCPT"): 3,
            ("lmtp_messages_total",): 2,
            ("lmtp_recipients_total", "null", "2xx"): 2,
            ("lmtp_replies_total", "null", "2xx"): 2,
            ("lmtp_replies_total", "", "5xx"): 1,
            ("lmtp_refusals_total", "content", "5.3.4"): 1,
            ("lmtp_limits_total", "message size"): 1,
            ("lmtp_delivery_seconds_count", "null"): 2,
            ("lmtp_delivery_seconds_bucket", "null", "+Inf"): 2,
        }
        assert {key: found[key] for key in expected} == expected
        text = ask(web, "/metrics", accept=OPENMETRICS)
        assert text.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        same = samples(text.text, parse_openmetrics)  # type: ignore[attr-defined]
        assert {key: same[key] for key in expected} == expected


def test_the_log_says_no_more_for_it(tmp_path: Path) -> None:
    """Whoever asks each second would fill it."""
    with monitored(tmp_path, "--backend", "null:") as (server, web):
        ask(web, "/metrics")
        server.terminate()
        assert server.ended() == -signal.SIGTERM
        assert "/metrics" not in server.output
        assert "HTTPChannel" not in server.output


def test_a_reload_takes_nothing_from_what_was_counted(tmp_path: Path) -> None:
    """Nor does one that fails, and both are counted."""
    configuration = tmp_path / "lmtp.toml"
    configuration.write_text('backend = "first"\n[backends]\nfirst = "null:"\n')
    with monitored(tmp_path, "--config", str(configuration)) as (server, web):
        port = server.port
        with Client(port) as client:
            client.deliver("b@example.org")
        configuration.write_text('backend = "second"\n[backends]\nsecond = "null:"\n')
        server.process.send_signal(signal.SIGHUP)
        server.until("reloaded")
        with Client(port) as client:
            client.deliver("b@example.org")
        configuration.write_text("nonsense\n")
        server.process.send_signal(signal.SIGHUP)
        server.until("all stays as it was")
        found = metrics(web)
        assert found["lmtp_messages_total",] == 2
        assert found["lmtp_replies_total", "first", "2xx"] == found["lmtp_replies_total", "second", "2xx"] == 1
        assert found["lmtp_reloads_total", "ok"] == found["lmtp_reloads_total", "failed"] == 1
        assert found["lmtp_errors_total", "error"] >= 1


def test_what_befalls_the_parent_of_workers_is_counted_and_a_reload_once(tmp_path: Path) -> None:
    configuration = tmp_path / "lmtp.toml"
    right = 'backend = "null:"\nworkers = 2\n'
    configuration.write_text(right)
    with monitored(tmp_path, "--config", str(configuration)) as (server, web):
        pids = [int(server.until(rf"worker {number} \(process (\d+)\) serves\n")[1]) for number in (1, 2)]
        first = metrics(web)
        os.kill(pids[0], signal.SIGKILL)
        server.until(r"killed by SIGKILL; (?s:.)*worker 1 \(process \d+\) serves\n")
        server.reload(r"reloaded, ")
        configuration.write_text("nonsense\n")
        server.reload("all stays as it was, faults=1\n.* error ")
        found = metrics(web)
    names = [
        ("lmtp_processes",),
        ("lmtp_worker_restarts_total",),
        ("lmtp_reloads_total", "ok"),
        ("lmtp_reloads_total", "failed"),
        ("lmtp_errors_total", "error"),
    ]
    assert [first[name] for name in names] == [2, 0, 0, 0, 0]
    # One for the worker, and two lines for the reload.
    assert [found[name] for name in names] == [2, 1, 1, 1, 3]


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_the_answer_to_head_has_no_body(tmp_path: Path, path: str) -> None:
    """RFC 9110 §9.3.2."""
    with monitored(tmp_path, "--backend", "null:") as (_, web):
        response = ask(web, path, "HEAD")
        assert (response.status, response.text) == (200, "")  # type: ignore[attr-defined]


def test_only_what_there_is_can_be_asked_for_and_nothing_be_changed(tmp_path: Path) -> None:
    """In plain text, and every answer says that it is not to be kept, framed or sniffed at."""
    with monitored(tmp_path, "--backend", "null:") as (_, web):
        for method, path, headers, status, text in (
            ("GET", "/health", {}, 200, "ok\n"),
            ("GET", "/nowhere", {}, 404, "not found\n"),
            ("GET", "/health/x", {}, 404, "not found\n"),
            ("GET", "/../etc/passwd", {}, 404, "not found\n"),
            ("POST", "/health", {}, 405, "nothing can be changed here\n"),
            ("DELETE", "/metrics", {}, 405, "nothing can be changed here\n"),
            ("OPTIONS", "/metrics", {}, 405, "nothing can be changed here\n"),
            ("TRACE", "/metrics", {}, 405, "nothing can be changed here\n"),
            ("GET", "/health", {"host": "localhost:1"}, 200, "ok\n"),
            ("GET", "/health", {"host": "[::1]:1"}, 200, "ok\n"),
            ("GET", "/health", {"host": "192.0.2.1"}, 200, "ok\n"),
            ("GET", "/health", {"host": "rebound.example"}, 421, None),
            ("GET", "/metrics", {"host": "127.0.0.1.rebound.example:80"}, 421, None),
            ("GET", "/metrics", {"host": "localhost@rebound.example"}, 421, None),
            ("GET", "/metrics", {"host": ""}, 421, None),
        ):
            response = ask(web, path, method, **headers)
            assert response.status == status, (method, path, headers)
            assert text is None or response.text == text  # type: ignore[attr-defined]
            assert response.headers["content-type"].startswith("text/plain; ")
            assert response.headers["server"] == "lmtp-twisted"
            assert response.headers["cache-control"] == "no-store"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in response.headers["content-security-policy"]
        refused = ask(web, "/health", body=b"x" * 10)
        assert (refused.status, refused.headers["connection"]) == (413, "close")


def test_a_body_is_not_read_and_what_is_in_it_is_no_request(tmp_path: Path) -> None:
    """A balancer that speaks HTTP/1.0 without a Host is answered."""
    with monitored(tmp_path, "--backend", "null:") as (_, web):
        for request, codes in (
            (b"GET /health HTTP/1.0\r\n\r\n", [b"200"]),
            (b"GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n0\r\n\r\n", [b"413"]),
            (b"GET /health HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nGET / HTTP/1.1\r\n\r\n", [b"413"]),
            (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", [b"400"]),
            (b"GET /health HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nConnection: close\r\n\r\n", [b"200", b"404"]),
            (b"nonsense\r\n\r\n", [b"400"]),
        ):
            with socket.create_connection(("127.0.0.1", web), PATIENCE) as connection:
                connection.sendall(request)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))  # it is read here
            assert re.findall(rb"^HTTP/1\.[01] (\d+)", answer, re.MULTILINE) == codes, request


def test_connections_are_bounded(tmp_path: Path) -> None:
    """For who comes when there are too many, the one goes that is silent for longest; mail is taken all the same."""
    with monitored(tmp_path, "--backend", "null:") as (server, web):
        many = [socket.create_connection(("127.0.0.1", web), PATIENCE) for _ in range(MOST_CONNECTIONS)]
        assert _answers(web)
        with many[0] as oldest, pytest.raises(ConnectionResetError):
            oldest.recv(1)
        with Client(server.port) as client:
            assert client.deliver("b@example.org")[0].startswith("250 ")
        for connection in many:
            connection.close()


def _answers(port: int) -> bool:
    try:
        return ask(port, "/health").status == 200
    except (ConnectionError, HTTPException):
        return False


def test_without_the_package_the_server_does_not_start_with_http(tmp_path: Path) -> None:
    """It says what is missing, and starts without."""
    blocked = (
        "import sys, importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, package=None: "
        "None if name == 'prometheus_client' else found(name, package)\n"
        "sys.modules['prometheus_client'] = None\n"
        "from twisted.scripts.twistd import run; run()"
    )
    command = [TWISTD[0], "-c", blocked, "-n", "--pidfile=", "lmtp", "--port", "0", "--check", "--backend", "null:"]
    for more, status, line in (
        (["--http", "0"], 1, "twistd lmtp: --http: it needs prometheus_client: pip install 'lmtp-twisted[http]'"),
        ([], 0, "twistd lmtp: the server can start"),
    ):
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
        assert (done.returncode, (done.stderr or done.stdout).splitlines()[-1]) == (status, line)


@pytest.mark.peer("prometheus")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_real_prometheus_counts_what_was_sent(tmp_path: Path, workers: str) -> None:
    """Under load: its sums are those of the client when all is sent, and its promtool finds nothing to complain of."""
    sessions, messages = 5, 200
    with monitored(tmp_path, "--backend", "maildir:mail,fsync=no", "--workers", workers) as (server, web):
        port = server.port
        server.drain()
        with prometheus(tmp_path / "prometheus", web) as scraping:
            with ThreadPoolExecutor(sessions) as threads:
                list(threads.map(lambda _: _deliver_many(port, messages), range(sessions)))
            expected = {
                "sum(lmtp_messages_total)": sessions * messages,
                'sum(lmtp_replies_total{class="2xx",backend="maildir"})': 2 * sessions * messages,
                'sum(lmtp_commands_total{verb="RCPT"})': 2 * sessions * messages,
                "sum(lmtp_content_bytes_total)": 25 * sessions * messages,
                'sum(lmtp_delivery_seconds_count{backend="maildir"})': 2 * sessions * messages,
                "sum(lmtp_backend_batch_messages_sum)": sessions * messages,
                "lmtp_sessions_total": sessions,
                "lmtp_sessions_open": 0,
            }
            deadline = time.monotonic() + PATIENCE
            while (found := {query: scraping.value(query) for query in expected}) != expected:
                assert time.monotonic() < deadline, found
            assert scraping.value("up") == 1
            half = scraping.value("histogram_quantile(0.5, sum by (le) (lmtp_delivery_seconds_bucket))")
            assert half is not None
            assert 0 < half < 10
        page = ask(web, "/metrics").text  # type: ignore[attr-defined]
    checked = subprocess.run(
        [str(find("promtool")), "check", "metrics"], input=page, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def _deliver_many(port: int, count: int) -> None:
    with Client(port) as client:
        for _ in range(count):
            replies = client.deliver("b@example.org", "c@example.org")
            assert all(reply.startswith("250 ") for reply in replies)
        client.say("QUIT")
