"""
aiosmtpd as an LMTP server that accepts every message and forgets it: ``aiosmtpd_server.py PORT``.

It gives one reply for a message by itself; the handler joins one for each recipient by hand, as it has to.
"""

import asyncio
import sys

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import Envelope, Session


class Null:
    """Accepts everything."""

    async def handle_DATA(self, server: LMTP, session: Session, envelope: Envelope) -> str:  # its signature
        return "\r\n".join(f"250 2.1.5 <{recipient}> Delivered" for recipient in envelope.rcpt_tos)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: LMTP(Null(), loop=loop, data_size_limit=200_000_000), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
