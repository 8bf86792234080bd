"""Endpoint descriptions, and whether one can listen there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import ServerFactory

from lmtp_twisted.daemon.listening import front_of, make_endpoint, read_description, try_to_listen
from lmtp_twisted.extensions.proxy import HeaderFactory


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("tcp:2524", "tcp:2524:backlog=1024"),
        ("tcp:2524:192.0.2.1", "tcp:2524:192.0.2.1:backlog=1024"),
        ("tcp:port=2524:interface=\\:\\:1", "tcp:port=2524:interface=\\:\\:1:backlog=1024"),
        ("tcp6:2524", "tcp6:2524:backlog=1024"),
        ("ssl:2524:key.pem", "ssl:2524:key.pem:backlog=1024"),
        ("unix:/run/lmtp", "unix:/run/lmtp:mode=660:backlog=1024"),
        ("haproxy:tcp:2524", "tcp:2524:backlog=1024"),
    ],
)
def test_what_a_description_does_not_say_is_added(text: str, completed: str) -> None:
    assert read_description(text).text == completed


@pytest.mark.parametrize(
    "text",
    [
        "tcp:2524:backlog=5",
        "tcp:2524:192.0.2.1:5",
        "tcp6:2524:5",
        "unix:/run/lmtp:666:5",
        "unix:/run/lmtp:backlog=5:mode=600",
        "systemd:domain=INET:index=0",
        "fd:3",
    ],
)
def test_what_a_description_says_stands(text: str) -> None:
    assert read_description(text).text == text


def test_escapes_are_those_of_twisted() -> None:
    assert read_description(r"unix:/run/a\:b\=c\\d").values["address"] == r"/run/a:b=c\d"
    assert read_description(r"unix:address=/run/a\:b").values["address"] == "/run/a:b"


@pytest.mark.parametrize(
    "text",
    ["tcp:25", "tcp:025", "tcp:port=25", "tcp:interface=::1:port=25", "tcp6:25", "TCP6:25", "ssl:25", "haproxy:tcp:25"],
)
def test_port_25_is_refused(text: str) -> None:
    """RFC 2033 §5."""
    with pytest.raises(ValueError, match="port 25 is SMTP's"):
        read_description(text)


def test_a_socket_whose_name_is_25_is_no_port() -> None:
    assert read_description("unix:25").values["address"] == "25"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tcp", "its port is missing, as in tcp:2524"),
        ("tcp:", "its port is missing"),
        ("unix:", "its address is missing, as in unix:/run/lmtp.sock"),
        ("tcp:x", "'x' is not a whole number"),
        ("tcp:65536", "is not a port from 0 to 65535"),
    ],
)
def test_a_description_without_its_most_important_part_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_description(text)


def _endpoint(text: str) -> Any:
    return make_endpoint(reactor, read_description(text))


def test_endpoints_are_twisteds() -> None:
    assert isinstance(_endpoint("tcp:0"), TCP4ServerEndpoint)
    assert isinstance(_endpoint("unix:/run/lmtp"), UNIXServerEndpoint)


@pytest.mark.parametrize("text", ["haproxy:tcp:0", "HAProxy:unix:/run/a\\:b"])
def test_behind_a_proxy_it_is_an_endpoint_of_twisteds_with_a_factory_of_ours(text: str) -> None:
    """Twisted's own greets before the header, and drops one that comes in two segments."""
    assert isinstance(_endpoint(text), (TCP4ServerEndpoint, UNIXServerEndpoint))
    assert isinstance(front_of(read_description(text), None, ServerFactory(), reactor), HeaderFactory)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("haproxy:haproxy:tcp:2524", "one haproxy:"),
        ("haproxy:ssl:2524", "the header comes before TLS"),
        ("haproxy:", "Unknown endpoint type: ''"),
        ("haproxy:tcp", "its port is missing"),
        ("haproxy:unix:", "its address is missing"),
    ],
)
def test_a_proxy_is_in_front_of_an_endpoint_that_can_have_one(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        _endpoint(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Unknown endpoint type: ''"),
        ("2524", "Unknown endpoint type: '2524'"),
        ("tcp:0:backlog=many", "invalid literal for int"),
        ("tcp:0:speed=1", "not an endpoint description"),
        ("unix:/run/lmtp:mode=9", "invalid literal for int"),
        ("unix:/run/lmtp\\", "not an endpoint description"),
        ("ssl:0:privateKey=/nonexistent", "No such file or directory"),
    ],
)
def test_what_twisted_does_not_take_is_refused_with_its_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        _endpoint(text)


def test_a_package_that_an_endpoint_needs_and_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def server_from_string(reactor: object, description: str) -> None:
        raise ImportError("No module named 'OpenSSL'")

    monkeypatch.setattr("lmtp_twisted.daemon.listening.serverFromString", server_from_string)
    with pytest.raises(ValueError, match="a package is missing: No module named 'OpenSSL'"):
        _endpoint("ssl:0")


def _try(*texts: str) -> None:
    with ExitStack() as tried:
        for text in texts:
            try_to_listen(read_description(text), tried)


def test_a_free_port_is_free_again_after_the_trial() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    _try(f"tcp:{port}:interface=127.0.0.1")
    _try(f"tcp:{port}:interface=127.0.0.1")


@pytest.mark.parametrize("kind", ["tcp", "haproxy:tcp"])
@pytest.mark.parametrize("interface", ["127.0.0.1", "localhost", ""])
def test_a_port_in_use_is_noticed(taken_port: int, interface: str, kind: str) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        _try(f"{kind}:{taken_port}:interface={interface}")


def test_the_same_port_twice_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="Address already in use"):
        _try(f"tcp:{port}:interface=127.0.0.1", f"tcp:{port}")


def test_an_address_of_another_machine_is_noticed() -> None:
    with pytest.raises(OSError, match="Cannot assign requested address"):
        _try("tcp:0:interface=192.0.2.1")


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("description", ["tcp6:{}:interface=\\:\\:1", "tcp:{}:interface=\\:\\:1"])
def test_ipv6_ports_are_tried_too(description: str) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        text = description.format(listener.getsockname()[1])
        with pytest.raises(OSError, match="Address already in use"):
            _try(text)
    _try(text)


def test_types_of_others_are_not_tried() -> None:
    _try("fd:3")


# Unix sockets


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a Unix socket."""
    return tmp_path / "lmtp"


def test_a_trial_leaves_no_socket_behind(path: Path) -> None:
    _try(f"unix:{path}")
    assert os.listdir(path.parent) == []


def test_a_socket_that_somebody_listens_on_is_in_use(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(OSError, match="another server listens there"):
            _try(f"unix:{path}")
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert os.listdir(path.parent) == ["lmtp"]


def test_a_socket_of_a_server_that_is_too_busy_to_answer_is_in_use(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as clients:
        listener.bind(str(path))
        listener.listen(0)
        is_full = False
        while not is_full:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            is_full = client.connect_ex(str(path)) == errno.EAGAIN
        with pytest.raises(OSError, match="another server listens there"):
            _try(f"unix:{path}")


def test_a_socket_that_nobody_listens_on_any_more_is_removed(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    _try(f"unix:{path}")
    assert os.listdir(path.parent) == []


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(OSError, match="that is not a socket"):
        _try(f"unix:{path}")
    assert path.read_text() == "precious"


def test_a_lock_of_a_process_that_lives_is_heeded(path: Path) -> None:
    Path(f"{path}.lock").symlink_to(str(os.getppid()))
    with pytest.raises(OSError, match=f"in use by process {os.getppid()}"):
        _try(f"unix:{path}")


def test_a_lock_of_a_process_that_died_is_not(path: Path) -> None:
    # No process has a number above the kernel's largest (proc(5), pid_max).
    Path(f"{path}.lock").symlink_to(str(2**22 + 1))
    _try(f"unix:{path}")
    assert os.listdir(path.parent) == []


def test_a_directory_that_is_not_there_is_noticed(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _try(f"unix:{path}/lmtp")


def test_a_path_that_is_too_long_is_noticed_and_leaves_nothing(path: Path) -> None:
    with pytest.raises(OSError, match="path too long"):
        _try(f"unix:{path}{'x' * 100}")
    assert os.listdir(path.parent) == []
