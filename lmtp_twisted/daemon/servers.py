"""
Where a server listens, and what it goes by there: the options of the command line or of the top of a configuration
file, or with those that a listener has of its own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.cred.portal import Portal

from lmtp_twisted.daemon.certificate import CertificateFiles, ClientCAError, ReloadedCertificate
from lmtp_twisted.daemon.checkers import portal_of
from lmtp_twisted.daemon.configuration import PLACES
from lmtp_twisted.daemon.given import PemContents
from lmtp_twisted.daemon.listening import ListenDescription, read_description, read_http_description
from lmtp_twisted.daemon.said import Fault, Faults, Place, Said
from lmtp_twisted.settings import Settings

#: The port of 127.0.0.1 where nobody said which.
DEFAULT_PORT = 2524

# Endpoints that are no Unix sockets; what another package's are nobody knows.
_OF_TCP = frozenset({"tcp", "tcp6", "ssl", "tls"})

#: A place to listen: where it was said, what it is, and whether it begins with TLS.
Wanted = tuple[Place, ListenDescription, bool]
#: Calls a function as the user that the server will be.
AsLater = Callable[[Callable[[], Any]], Any]


@attrs.define(eq=False)
class Server:
    """
    One or more places to listen where the same rules hold.

    :ivar listener: the name of the listener whose rules they are; empty for those of the top.
    :ivar said: the rules.
    :ivar wanted: the places.
    :ivar is_web: whether it is the one of ``--http``.
    """

    listener: str
    said: Said
    wanted: list[Wanted] = attrs.field(factory=list)
    is_web: bool = False


def servers_of(top: Said, listeners: Mapping[str, Said], faults: Faults) -> list[Server]:
    """
    :param top: the options.
    :param listeners: what listeners say of themselves.
    :param faults: gets what is wrong.
    :returns: those that have a place to listen.
    """
    first = Server("", top)
    port = top["port"]
    if port is None and not (top["listen"] or top["listen-tls"] or listeners):
        port = DEFAULT_PORT
    if port is not None:
        _want(first, "port", None, port, faults)
    for key in ("listen", "listen-tls"):
        for index, text in enumerate(top[key]):
            _want(first, key, index, text, faults)
    servers = [first]
    for name, said in listeners.items():
        server = Server(f"listeners.{name}", said.over(top))
        key = next(key for key in PLACES if said.values[key] is not None)
        _want(server, key, None, said.values[key], faults)
        if said.values.keys() - PLACES:
            servers.append(server)
        else:
            first.wanted += server.wanted
    _refuse_users([wanted for server in servers for wanted in server.wanted], top, top, faults)
    for server in servers[1:]:
        _refuse_users(server.wanted, server.said, listeners[server.listener.partition(".")[2]], faults)
    if top["http"] is not None:
        servers.append(_web_server(top, faults))
    _number(servers)
    return [server for server in servers if server.wanted]


def _web_server(top: Said, faults: Faults) -> Server:
    place = top.place("http").saying(top["http"])
    server = Server("", top, is_web=True)
    try:
        server.wanted.append((place, read_http_description(top["http"]), False))
    except ValueError as error:
        faults.add(Fault(place, f": {error}"))
    return server


def _number(servers: Sequence[Server]) -> None:
    """Tell those apart that are at one place."""
    seen: Counter[str] = Counter()
    for server in servers:
        for index, (place, description, is_tls) in enumerate(server.wanted):
            number = seen[description.key]
            seen[description.key] += 1
            server.wanted[index] = (place, attrs.evolve(description, number=number), is_tls)


def _want(server: Server, key: str, index: int | None, value: Any, faults: Faults) -> None:
    place = server.said.place(key, index).saying(value)
    text = f"tcp:{value}:interface=127.0.0.1" if key == "port" else value
    try:
        server.wanted.append((place, read_description(text), key == "listen-tls"))
    except ValueError as error:
        faults.add(Fault(place, f": {error}"))


def _refuse_users(
    wanted: Sequence[tuple[Place, ListenDescription, bool]], said: Said, own: Said, faults: Faults
) -> None:
    """Where users are named, and there is no Unix socket."""
    for key in ("allow-uid", "allow-gid"):
        if (own is said or key in own.values) and said[key] and all(what.kind in _OF_TCP for _, what, _ in wanted):
            faults.add(said.fault(key, " is for Unix sockets, and there is none to listen on"))
            return


class Certificates:
    """
    The certificates of a server, each read once.

    :param given: what files held, by their paths, where somebody else has read them.
    """

    def __init__(self, given: Mapping[tuple[str | None, ...], PemContents] | None = None) -> None:
        self._given = given or {}
        self._read: dict[CertificateFiles, ReloadedCertificate] = {}

    @property
    def all(self) -> list[ReloadedCertificate]:
        """Those that were read."""
        return list(self._read.values())

    def of(self, said: Said) -> ReloadedCertificate | None:
        """
        :returns: what makes TLS connections, if there is a certificate.
        :raises ValueError: with one line that says what is wrong.
        """
        if said["tls-certificate"] is None:
            for key in ("tls-key", "tls-client-ca", "tls-require-client", "listen-tls"):
                if said[key]:
                    raise _needs(said, key, "tls-certificate")
            return None
        if said["tls-require-client"] and said["tls-client-ca"] is None:
            raise _needs(said, "tls-require-client", "tls-client-ca")
        certificate, own_key, client_ca = (
            None if said[option] is None else os.path.abspath(said[option])
            for option in ("tls-certificate", "tls-key", "tls-client-ca")
        )
        assert certificate is not None
        files = CertificateFiles(certificate, own_key or certificate, client_ca, bool(said["tls-require-client"]))
        if files not in self._read:
            try:
                contents = self._given.get((files.certificate, files.key, files.client_ca))
                self._read[files] = ReloadedCertificate(files, contents)
            except ClientCAError as error:
                raise said.fault("tls-client-ca", f": {error}")
            except ValueError as error:
                raise said.fault("tls-certificate", f": {error}")
        return self._read[files]


def portal_for(said: Said, settings: Settings, backend: Any, as_later: AsLater) -> Portal | None:
    """
    :param backend: what those get who authenticate.
    :returns: who may authenticate, if anybody may.
    :raises ValueError: with one line that says what is wrong.
    """
    descriptions = said["auth"]
    if not descriptions:
        for key in ("auth-required", "auth-insecure"):
            if said[key]:
                raise _needs(said, key, "auth")
        return None
    kinds = [description.partition(":")[0] for description in descriptions]
    if "certificate" in kinds and said["tls-client-ca"] is None:
        place = said.place("auth", kinds.index("certificate")).saying("certificate")
        raise Fault(place, f" needs {place.calls('tls-client-ca')}")
    if "AUTH" in settings.disabled:
        place = said.place("auth")
        raise Fault(place, f" and {place.calls('disable')} AUTH: one of them only")
    places = [said.place("auth", index) for index in range(len(descriptions))]
    portal: Portal = as_later(lambda: portal_of(descriptions, places, backend))
    return portal


def _needs(said: Said, key: str, other: str) -> Fault:
    return said.fault(key, f" needs {said.place(key).calls(other)}")
