"""The HTTP that pages are asked by: small requests that come soon, by the name of an address, and change nothing."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import BAD_REQUEST, FORBIDDEN, NOT_ALLOWED, HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from lmtp_twisted.daemon.web.plain import Plain

#: Connections at a time. For who comes when there are so many, the one goes that has asked nothing for longest.
MOST_CONNECTIONS = 100
#: Seconds in which a request has to come, from the connection or from the end of the answer before.
REQUEST_TIME = 30
#: Seconds in which what was written has to be read; of a large answer each block anew.
READING_TIME = 30
# Seconds in which the last octets of an answer have to be read, once nothing is said any more.
_FAREWELL = 15

_MISDIRECTED = 421
_CONTENT_TOO_LARGE = 413
_METHODS = ("GET", "HEAD")
_URI_TOO_LONG = b"414 URI Too Long"
_HEADERS_TOO_LARGE = b"431 Request Header Fields Too Large"

#: What each answer says, unless it says otherwise: nothing here is kept, framed, or for other sites.
HEADERS = (
    (b"server", b"lmtp-twisted"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
)


class StatusChannel(HTTPChannel):
    """
    A connection. It is one of those that the site has as long as it lasts. Its requests are answered one after the
    other: none is begun before the answer to the one before has been taken from here.
    """

    site: StatusSite
    abortTimeout = _FAREWELL

    _patience: Any = None
    # While there is more to read than the system takes.
    _reading: Any = None
    # The request whose answer is yet to be read.
    _answered: Any = None

    @property
    def is_silent(self) -> bool:
        """Whether no request of it is to be answered."""
        return not self._handlingRequest

    def connectionMade(self) -> None:
        """The first request may come."""
        super().connectionMade()
        self._wait()

    def _wait(self) -> None:
        self.site.channels.pop(self, None)
        self.site.channels[self] = None
        self._patience = self.callLater(REQUEST_TIME, self.timeoutConnection)

    def allHeadersReceived(self) -> None:
        """A request has come. A body of it would be for nothing."""
        _forget(self._patience)
        if self.length != 0:
            self.length = 0
            self.requests[-1].has_body = True
        super().allHeadersReceived()

    def lineLengthExceeded(self, line: bytes) -> None:
        """No name of a page, and no header that is needed, is as long as that."""
        said = _HEADERS_TOO_LARGE if self._receivedHeaderSize else _URI_TOO_LONG
        self.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % said)
        self.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        """What comes behind a request waits, and is not taken without end, whether or not answers are read."""
        super().rawDataReceived(data)
        if self._handlingRequest and sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Whether another request may follow. What comes behind a request with a body would be that."""
        return not request.has_body and bool(super().checkPersistence(request, version))

    def requestDone(self, request: Any) -> None:
        """It was answered. The next may come once that was read."""
        self._answered = request
        if not self._waitingForTransport:
            self._go_on()

    def _go_on(self) -> None:
        request, self._answered = self._answered, None
        if self.persistent:
            # Before the next request, which may be here already.
            self._wait()
        super().requestDone(request)

    def pauseProducing(self) -> None:
        """The client does not read."""
        super().pauseProducing()
        if self._reading is None:
            self._reading = self.callLater(READING_TIME, self.forceAbortClient)

    def resumeProducing(self) -> None:
        """It has read all that was written."""
        _forget(self._reading)
        self._reading = None
        super().resumeProducing()
        if self._answered is not None and not self._waitingForTransport:
            self._go_on()

    def loseConnection(self) -> None:
        """End it, once the client has read what was written, for which it has not for ever."""
        if self._abortingCall is None:
            self._abortingCall = self.callLater(_FAREWELL, self.forceAbortClient)
        super().loseConnection()

    def timeoutConnection(self) -> None:
        """Nothing came. It is nothing to log."""
        self.loseConnection()

    def forceAbortClient(self) -> None:
        """It had its time. It is nothing to log."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        for call in (self._patience, self._reading, self._abortingCall):
            _forget(call)
        self._abortingCall = None
        if self._answered is not None:
            self.requests.remove(self._answered)
        self.site.channels.pop(self, None)
        super().connectionLost(reason)


def _forget(call: Any) -> None:
    if call is not None and call.active():
        call.cancel()


class StatusRequest(Request):
    """
    One request.

    :ivar has_body: whether there is one, which nobody reads.
    """

    has_body = False


class StatusSite(Site):
    """
    :param root: the pages.
    :ivar unread: octets of answers that are being sent and are kept until they are read.
    :ivar channels: the connections of now; those that have been silent for longest before others.
    """

    noisy = False
    protocol = StatusChannel  # type: ignore[assignment]  # without what chooses between versions of HTTP

    def __init__(self, root: Resource, **options: Any) -> None:
        super().__init__(root, requestFactory=StatusRequest, timeout=REQUEST_TIME, **options)
        self.unread = 0
        self.channels: dict[StatusChannel, None] = {}

    def log(self, request: Any) -> None:
        """Whoever asks each second would fill the log of the mail."""

    def buildProtocol(self, addr: Any) -> Any:
        """A connection, unless there are too many that wait for answers."""
        if len(self.channels) >= MOST_CONNECTIONS:
            silent = next((channel for channel in self.channels if channel.is_silent), None)
            if silent is None:
                return None
            del self.channels[silent]
            silent.forceAbortClient()
        return super().buildProtocol(addr)

    def stopFactory(self) -> None:
        """It listens no more."""
        super().stopFactory()
        for channel in list(self.channels):
            channel.loseConnection()

    def getResourceFor(self, request: Any) -> Any:
        """What is asked for, or what is said instead."""
        for name, value in HEADERS:
            request.setHeader(name, value)
        return _refusal(request) or _if_allowed(request, super().getResourceFor(request))


def _if_allowed(request: Any, found: Any) -> Any:
    method = request.method.decode("latin-1")
    if method in _METHODS or hasattr(found, f"render_{method}") or isinstance(found, Plain):
        return found
    return Plain(NOT_ALLOWED, "nothing can be changed here", ((b"allow", b"GET, HEAD"),))


def _refusal(request: Any) -> Resource | None:
    if request.has_body:
        return Plain(_CONTENT_TOO_LARGE, "a request has no body here", ((b"connection", b"close"),))
    hosts = request.requestHeaders.getRawHeaders(b"host", [])
    if len(hosts) > 1:
        return Plain(BAD_REQUEST, "one Host is enough")
    if hosts and _is_loopback(request.getHost()) and not _is_address(hosts[0]):
        return Plain(_MISDIRECTED, "ask for localhost or an address: other names may be anybody's")
    if request.method.decode("latin-1") not in _METHODS and _is_of_strangers(request, hosts):
        return Plain(FORBIDDEN, "another site's page may change nothing here")
    return None


def _is_of_strangers(request: Any, hosts: list[bytes]) -> bool:
    """
    Whether a browser says that a page of another site asks. A browser that asks first, before DELETE, is told nothing
    that lets it; this is for those that do not.
    """
    sites = request.requestHeaders.getRawHeaders(b"sec-fetch-site", [])
    origins = request.requestHeaders.getRawHeaders(b"origin", [])
    ours = [host.lower() for host in hosts]
    return any(site not in (b"same-origin", b"none") for site in sites) or any(
        origin.lower().partition(b"://")[2] not in ours for origin in origins
    )


def _is_loopback(address: Any) -> bool:
    try:
        return ip_address(getattr(address, "host", "")).is_loopback
    except ValueError:
        return False


def _is_address(host: bytes) -> bool:
    """
    Whether a Host is ``localhost`` or an IP address. A page of anybody's can have its own name lead to this machine, so
    that the browser lets it read what is here; an address it cannot have for a name.
    """
    try:
        name = urlsplit(f"//{host.decode('ascii')}").hostname or ""
        return name.rstrip(".") == "localhost" or bool(ip_address(name))
    except ValueError:
        return False
