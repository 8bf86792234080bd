"""Attacks by those who keep the server busy: as many commands, connections and lines as it will take."""

import asyncio
from base64 import b64encode

from benchmarks.abuse.clients import Client, Field

#: Octets of pipelined commands that are sent in one go.
BURST = 64 * 1024
_LONG = b"x" * 256 * 1024


async def talks_rubbish(field: Field, number: int) -> None:
    """Garbage in bursts; it connects anew as soon as it is sent away."""
    field.arrive(number)
    while True:
        client = await field.connect()
        await _pour(client, b"%d what is this?\r\n" % number, bursts=1)


async def rubbish_between(field: Field, number: int) -> None:
    """Garbage with a NOOP now and then, so that it is never sent away."""
    client = await field.introduced()
    field.arrive(number)
    await _pour(client, b"FOO\r\n" * 8 + b"NOOP\r\n")


async def noops(field: Field, number: int) -> None:
    """NOOP, without a pause."""
    client = await field.introduced()
    field.arrive(number)
    await _pour(client, b"NOOP\r\n")


async def verifies(field: Field, number: int) -> None:
    """VRFY of ever other names."""
    client = await field.introduced()
    field.arrive(number)
    names = (b"VRFY <u%d.%d@example.org>\r\n" % (number, each) for each in range(2000))
    await _pour(client, b"".join(names))


async def resets(field: Field, number: int) -> None:
    """Transactions that are given up: MAIL, five RCPT, RSET, with ever other addresses."""
    client = await field.introduced()
    field.arrive(number)
    turn = 0
    while True:
        burst = bytearray()
        for _ in range(100):
            turn += 1
            burst += b"MAIL FROM:<s%d.%d@attacker.example>\r\n" % (number, turn)
            for each in range(5):
                burst += b"RCPT TO:<r%d.%d.%d@example.org>\r\n" % (number, turn, each)
            burst += b"RSET\r\n"
        await client.ask(bytes(burst))


async def names_recipients(field: Field, number: int) -> None:
    """A thousand RCPT with parameters and ever other addresses, no DATA, and the same again."""
    client = await field.introduced()
    field.arrive(number)
    turn = 0
    while True:
        turn += 1
        burst = bytearray(b"MAIL FROM:<s%d.%d@attacker.example>\r\n" % (number, turn))
        for each in range(1500):
            burst += b"RCPT TO:<r%d.%d.%d@example.org> NOTIFY=NEVER\r\n" % (number, turn, each)
        await client.ask(bytes(burst) + b"RSET\r\n")


async def empty_chunks(field: Field, number: int) -> None:
    """A message of empty chunks that never ends."""
    client = await field.in_transaction(number)
    field.arrive(number)
    await _pour(client, b"BDAT 0\r\n")


async def tiny_chunks(field: Field, number: int) -> None:
    """A message of chunks of one octet that never ends."""
    client = await field.in_transaction(number)
    field.arrive(number)
    await _pour(client, b"BDAT 1\r\nx")


async def long_lines(field: Field, number: int) -> None:
    """A command line without an end."""
    client = await field.introduced()
    field.arrive(number)
    while True:
        await client.say(_LONG)


async def long_content_lines(field: Field, number: int) -> None:
    """A line of content without an end: too large soon, and the server reads it away."""
    client = await field.in_content(number)
    field.arrive(number)
    while True:
        await client.say(_LONG)


async def connects_and_closes(field: Field, number: int) -> None:
    """Connections that are closed as soon as they are there."""
    field.arrive(number)
    while True:
        (await field.connect()).close()


async def handshakes(field: Field, number: int) -> None:
    """TLS handshakes, which cost the server far more than the client, and nothing behind them."""
    field.arrive(number)
    while True:
        client = await field.connect(field.tls_port)
        (await client.start_tls()).close()


async def guesses_passwords(field: Field, number: int) -> None:
    """AUTH with wrong passwords; it connects anew when it is sent away."""
    field.arrive(number)
    turn = 0
    while True:
        client = await field.introduced()
        while True:
            turn += 1
            response = b64encode(b"\0user%d\0guess%d" % (number, turn))
            await client.ask(b"AUTH PLAIN %b\r\n" % response)


async def sends_messages(field: Field, number: int) -> None:
    """Messages with ever other long addresses and all parameters, as fast as they are taken."""
    client = await field.introduced()
    field.arrive(number)
    turn = 0
    while True:
        turn += 1
        name = b"%d.%d.%b" % (number, turn, b"n" * 180)
        await client.ask(
            b"MAIL FROM:<%b@attacker.example> RET=HDRS ENVID=%b\r\n"
            b"RCPT TO:<%b@null.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;%b%b\r\nDATA\r\n"
            % (name, name[:90], name, b"o" * 250, name)
        )
        await client.say(b"Subject: %b\r\n\r\n.\r\n" % name)
        await client.replies()


async def _pour(client: Client, commands: bytes, bursts: int | None = None) -> None:
    """Send them without a pause, and read whatever comes back."""
    burst = commands * max(1, BURST // len(commands))

    async def read() -> None:
        while True:
            await client.hear()

    async def write() -> None:
        sent = 0
        while bursts is None or sent < bursts:
            await client.say(burst)
            sent += 1

    reading, writing = asyncio.ensure_future(read()), asyncio.ensure_future(write())
    try:
        await asyncio.gather(reading, writing)
    finally:
        reading.cancel()
        writing.cancel()
