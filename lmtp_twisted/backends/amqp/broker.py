"""Where the broker is and how one gets in: the URL of ``amqp:`` taken apart. Nothing here connects."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

_PORTS = {"amqp": 5672, "amqps": 5671}
_NODE = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?")


@attrs.frozen
class Node:
    """
    One node of the cluster.

    :ivar host: its name or address.
    :ivar port: where it listens for AMQP.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class Broker:
    """
    A cluster and how one gets in.

    :ivar nodes: one or more; all serve the same queues.
    :ivar virtual_host: which of its separate worlds.
    :ivar user: who we are.
    :ivar password: never to be shown.
    :ivar trust_root: who must have issued the node's certificate; ``None`` without TLS.
    """

    nodes: tuple[Node, ...]
    virtual_host: str
    user: str
    password: str = attrs.field(repr=False)
    trust_root: Any = None

    def endpoint(self, reactor: Any, node: Node, timeout: float) -> Any:
        """
        :param reactor: connects.
        :param node: one of :attr:`nodes`.
        :param timeout: seconds for the connection itself.
        :returns: an :class:`~twisted.internet.interfaces.IStreamClientEndpoint`. Under TLS the certificate must be for
            the node's host.
        """
        endpoint = HostnameEndpoint(reactor, node.host, node.port, timeout=timeout)
        if self.trust_root is None:
            return endpoint
        return wrapClientTLS(optionsForClientTLS(node.host, trustRoot=self.trust_root), endpoint)


def read_url(url: str, *, password_file: str = "", ca: str = "") -> Broker:
    """
    :param url: ``amqp://USER:PASSWORD@HOST:PORT,HOST…/VHOST``, or ``amqps://…``. Without a user it is ``guest``, as
        RabbitMQ has it; without a virtual host, ``/``.
    :param password_file: a file whose first line is the password.
    :param ca: a file with certificates of authorities, instead of the system's.
    :raises ValueError: with a line that shows no password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _PORTS or not parts.netloc:
        raise ValueError("it needs a URL, as in amqp:amqp://host/vhost,exchange=mail")
    if parts.query or parts.fragment:
        raise ValueError("its URL has no ?query and no #fragment: options follow a comma")
    # Before anything is quoted: what is before the slash may be half of a password.
    if "@" in parts.path:
        raise ValueError("its URL has an @ after a slash: a slash in a password is written %2F, an @ elsewhere %40")
    # One thing only, so that a slip of the pen in an option is not part of a name.
    path = parts.path[1:]
    if unknown := re.search(r"[,/].*", path):
        raise ValueError(f"{unknown[0]!r} is none of its options (a comma in a virtual host is %2C, a slash %2F)")
    login, _, hosts = parts.netloc.rpartition("@")
    user, password = _login(login, password_file)
    if ca and parts.scheme != "amqps":
        raise ValueError("ca is for amqps://")
    return Broker(
        nodes=tuple(_node(text, _PORTS[parts.scheme]) for text in hosts.split(",")),
        virtual_host=short_name(unquote(path) or "/", "the virtual host"),
        user=user,
        password=password,
        trust_root=_trust_root(ca) if parts.scheme == "amqps" else None,
    )


def _node(text: str, default_port: int) -> Node:
    match = _NODE.fullmatch(text)
    port = int(match["port"] or default_port) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is no HOST or HOST:PORT")
    return Node(match["literal"] or match["name"], port)


def _login(login: str, password_file: str) -> tuple[str, str]:
    user, colon, password = login.partition(":")
    if password_file:
        if colon:
            raise ValueError("password_file and a password in the URL: one of them only")
        password = _first_line(password_file)
    elif user and not colon:
        raise ValueError("a user without a password: give password_file=FILE")
    else:
        password = unquote(password) if colon else "guest"
    return unquote(user) or "guest", password


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            line = file.readline(4096).rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"password_file {path}: {error.strerror}")
    except UnicodeDecodeError:
        raise ValueError(f"password_file {path}: not UTF-8")
    if not line:
        raise ValueError(f"password_file {path}: its first line is empty")
    return line


def _trust_root(path: str) -> Any:
    if not path:
        return platformTrust()
    try:
        with open(path, "rb") as file:
            found = load_pem_x509_certificates(file.read())
    except OSError as error:
        raise ValueError(f"ca {path}: {error.strerror}")
    except ValueError:
        raise ValueError(f"ca {path}: no certificates in PEM")
    return trustRootFromCertificates([Certificate(X509.from_cryptography(certificate)) for certificate in found])


def short_name(name: str, what: str) -> str:
    """
    A name as AMQP has it: a short string of AMQP 0-9-1 §4.2.5.3.

    :param name: is returned.
    :param what: it is the name of.
    :raises ValueError: where it will not do.
    """
    if len(name.encode("utf-8", "surrogateescape")) > 255 or not name.isprintable():
        raise ValueError(f"{what} has at most 255 octets, all of them printable")
    return name
