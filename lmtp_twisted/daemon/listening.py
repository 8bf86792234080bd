"""
Where the server listens: endpoint descriptions as ``--listen`` takes them, read and tried before the daemon starts.

The descriptions are Twisted's (:func:`twisted.internet.endpoints.serverFromString`), so plugins of other packages work
too. Added here: port 25 is refused (RFC 2033 §5), a Unix socket is for its owner and group only, the backlog holds
more than a moment's connections, and ``haproxy:`` before another description is our own
:class:`~lmtp_twisted.extensions.proxy.HeaderFactory`: Twisted's greets before the header, and wants it in one segment.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import ExitStack, suppress
from typing import Any

import attrs
from twisted.internet.endpoints import serverFromString
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.lockfile import FilesystemLock

from lmtp_twisted.daemon.values import port
from lmtp_twisted.extensions.proxy import HeaderFactory

# The order of the positional arguments of Twisted's own endpoint types.
_POSITIONS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
    "tls": ("path", "port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
}
_DEFAULTS = {
    "tcp": {"backlog": "1024"},
    "tcp6": {"backlog": "1024"},
    "ssl": {"backlog": "1024"},
    "tls": {"backlog": "1024"},
    "unix": {"mode": "660", "backlog": "1024"},
}
_EXAMPLES = {"unix": "/run/lmtp.sock", "tls": "/etc/lmtp/certificates:2524"}
# The arguments that are paths.
_PATHS = frozenset({("unix", "address"), ("tls", "path"), ("ssl", "privateKey"), ("ssl", "certKey")})
_SPECIAL = re.compile(r"[\\:=]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_KEYWORD = re.compile(r"((?:[^\\=]|\\.)*)=(.*)", re.DOTALL)


@attrs.frozen
class ListenDescription:
    """
    :ivar text: the description as Twisted takes it, with our defaults where it said nothing.
    :ivar kind: its type, such as ``tcp``.
    :ivar values: its arguments by name, where it is a type of Twisted's; else empty.
    :ivar is_proxied: whether ``haproxy:`` stood before it.
    :ivar number: which one it is of those that are at the same place, as several may be at port 0.
    """

    text: str
    kind: str
    values: dict[str, str]
    is_proxied: bool = False
    number: int = 0

    @property
    def key(self) -> str:
        """
        The place, whatever else is said of it: it stays the same where the backlog changes, the mode, or what comes
        before a session there.
        """
        if self.kind in ("tcp", "tcp6"):
            where = f"{self.kind}:{self.values.get('interface', '')}:{self.values['port']}"
        elif self.kind == "unix":
            where = f"unix:{os.path.abspath(self.values['address'])}"
        else:
            where = self.text
        return f"{where}#{self.number}" if self.number else where


def read_description(text: str) -> ListenDescription:
    """
    :param text: such as ``unix:/run/lmtp.sock`` or ``tcp:2524:interface=192.0.2.1``.
    :raises ValueError: for port 25, and where ``haproxy:`` cannot stand. What else is wrong with it is for Twisted to
        say.
    """
    kind, *arguments = _fields(text)
    kind = kind.lower()
    if kind == "haproxy":
        inner = read_description(text[len("haproxy:") :])
        if inner.is_proxied:
            raise ValueError("there is one header of the PROXY protocol, so one haproxy:")
        if inner.kind in ("ssl", "tls"):
            raise ValueError("the header comes before TLS: --listen-tls haproxy:tcp:PORT is what proxies speak to")
        return attrs.evolve(inner, is_proxied=True)
    names = _POSITIONS.get(kind, ())
    values: dict[str, str] = {}
    positional = 0
    for argument in arguments:
        match = _KEYWORD.fullmatch(argument)
        if match is not None:
            values[_plain(match[1])] = _plain(match[2])
        elif positional < len(names):
            values[names[positional]] = _plain(argument)
            positional += 1
    if names and not values.get(names[0]):
        raise ValueError(f"its {names[0]} is missing, as in {kind}:{_EXAMPLES.get(kind, 2524)}")
    if "port" in values:
        port(values["port"])
    for name, value in _DEFAULTS.get(kind, {}).items():
        if name not in values:
            values[name] = value
            text += f":{name}={value}"
    return ListenDescription(text, kind, values if names else {})


def read_http_description(text: str) -> ListenDescription:
    """
    :param text: as for :func:`read_description`, or the number of a port. TCP without an interface is on loopback: what
        is shown there is for those who look after the server.
    :raises ValueError: as :func:`read_description`, and where ``haproxy:`` stands.
    """
    if text.isascii() and text.isdigit():
        text = f"tcp:{text}"
    description = read_description(text)
    if description.is_proxied:
        raise ValueError("haproxy: is for LMTP")
    loopback = {"tcp": "127.0.0.1", "tcp6": r"\:\:1"}.get(description.kind)
    if loopback is None or description.values.get("interface"):
        return description
    return read_description(f"{text}:interface={loopback}")


def _fields(text: str) -> list[str]:
    """What stands between colons, its escapes kept."""
    fields = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            fields[-1] += character + next(characters, "")
        elif character == ":":
            fields.append("")
        else:
            fields[-1] += character
    return fields


def _plain(field: str) -> str:
    return _ESCAPED.sub(r"\1", field)


def below_directory(text: str, directory: str) -> str:
    """
    :param text: a description of an endpoint.
    :param directory: where relative paths in it begin.
    :returns: the description with absolute paths, as far as its type is known to have some.
    """
    kind, *fields = _fields(text)
    if kind.lower() == "haproxy":
        return f"{kind}:{below_directory(text[len(kind) + 1 :], directory)}"
    names = iter(_POSITIONS.get(kind.lower(), ()))
    for index, field in enumerate(fields):
        match = _KEYWORD.fullmatch(field)
        name, value = (match[1], match[2]) if match else (next(names, ""), field)
        if (kind.lower(), name) in _PATHS and value:
            path = _SPECIAL.sub(r"\\\g<0>", os.path.join(directory, _plain(value)))
            fields[index] = f"{name}={path}" if match else path
    return ":".join((kind, *fields))


def make_endpoint(reactor: Any, description: ListenDescription) -> Any:
    """
    :returns: an :class:`~twisted.internet.interfaces.IStreamServerEndpoint`, without what :func:`front_of` adds.
    :raises ValueError: where Twisted does not take the description.
    """
    try:
        return serverFromString(reactor, description.text)
    except ImportError as error:
        raise ValueError(f"a package is missing: {error}")
    except (OSError, ValueError) as error:
        raise ValueError(str(error))
    except (IndexError, KeyError) as error:
        if description.kind == "systemd":
            raise NotPassedError
        raise ValueError(f"not an endpoint description ({error})")
    except Exception as error:
        raise ValueError(f"not an endpoint description ({error})")


class NotPassedError(ValueError):
    """There is no such socket of systemd's."""

    def __init__(self) -> None:
        super().__init__("systemd has passed no such socket (LISTEN_FDS, LISTEN_FDNAMES)")


def front_of(description: ListenDescription, tls: Any, factory: Any, reactor: Any) -> Any:
    """
    :param tls: makes the connections where TLS is spoken from the first octet; else ``None``.
    :param factory: makes the sessions.
    :returns: the factory that gets the connections: it has what comes before the session.
    """
    if tls is not None:
        factory = TLSMemoryBIOFactory(tls, False, factory)
        factory.noisy = False
    return HeaderFactory(factory, reactor) if description.is_proxied else factory


def try_to_listen(description: ListenDescription, tried: ExitStack, *, leaves_no_trace: bool = False) -> None:
    """
    Listen for a moment, as Twisted will. Types that are not Twisted's own are not tried.

    :param tried: ends the moment, so that what is tried next meets what was tried before.
    :param leaves_no_trace: a socket that nobody listens on any more is left where it is, and no lock is taken.
    :raises OSError: where it cannot be done.
    """
    values = description.values
    if description.kind == "tls" and not any(name.endswith(".pem") for name in os.listdir(values["path"])):
        raise FileNotFoundError(f"there is no certificate in {values['path']}: files of PEM end in .pem")
    if description.kind == "unix":
        _try_unix(values["address"], tried, leaves_no_trace)
    elif "port" in values:
        _try_tcp(values.get("interface", ""), int(values["port"]), description.kind == "tcp6", tried)


def _try_tcp(interface: str, number: int, is_ipv6: bool, tried: ExitStack) -> None:
    family = socket.AF_INET6 if is_ipv6 or ":" in interface else socket.AF_INET
    # As octets: for text Python looks for a module, and after a change of users it may find none.
    (_, _, _, _, address), *_ = socket.getaddrinfo(
        interface.encode() or None, number, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listener = tried.enter_context(socket.socket(family, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(1)


def _try_unix(path: str, tried: ExitStack, leaves_no_trace: bool) -> None:
    """
    A socket that nobody listens on any more is removed, whoever left it; Twisted does so only with its own lock file.
    """
    if not leaves_no_trace:
        lock = FilesystemLock(f"{path}.lock")
        if not lock.lock():
            raise OSError(errno.EADDRINUSE, f"in use by process {os.readlink(f'{path}.lock')}")
        tried.callback(lock.unlock)
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(f"there is a file {path} that is not a socket")
        with socket.socket(socket.AF_UNIX) as client, suppress(ConnectionRefusedError):
            # Not blocking: a server that is busy keeps its clients waiting here.
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(path)
            raise OSError(errno.EADDRINUSE, "another server listens there")
        if leaves_no_trace:
            if not may_change(os.path.dirname(os.path.abspath(path))):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        os.unlink(path)
    listener = tried.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    tried.callback(os.unlink, path)
    listener.listen(1)


def may_change(path: str) -> bool:
    """Whether we may make and remove what is in a directory, or write to a file, as the user that acts."""
    return may(path, os.W_OK | (os.X_OK if os.path.isdir(path) else 0))


def may(path: str, mode: int) -> bool:
    """Whether the user that acts may do that, as :func:`os.access` has it."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
