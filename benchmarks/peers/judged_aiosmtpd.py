"""
aiosmtpd's LMTP class with all that it has, for the conformance kit: ``judged_aiosmtpd.py PORT CERTIFICATE KEY``, and
``proxy`` where every connection begins with a PROXY header.

Its handler joins one reply for each recipient by hand, as it has to.
"""

import asyncio
import ssl
import sys

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Handler:
    """Accepts mail for all but one."""

    async def handle_RCPT(
        self, server: LMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address == "unknown@example.org":
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_PROXY(self, server: LMTP, session: Session, envelope: Envelope, proxy_data: object) -> bool:
        return True

    async def handle_DATA(self, server: LMTP, session: Session, envelope: Envelope) -> str:
        return "\r\n".join(f"250 2.1.5 <{recipient}> Delivered" for recipient in envelope.rcpt_tos)


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"judge", b"secret")
    return AuthResult(success=is_right, handled=False)


async def serve(port: int, certificate: str, key: str, *, behind_proxy: bool) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await loop.create_server(
        lambda: LMTP(
            Handler(),
            loop=loop,
            data_size_limit=100_000,
            enable_SMTPUTF8=True,
            tls_context=context,
            authenticator=authenticate,
            auth_require_tls=False,
            proxy_protocol_timeout=5 if behind_proxy else None,
        ),
        "127.0.0.1",
        port,
        backlog=1024,
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3], behind_proxy=sys.argv[4:] == ["proxy"]))
