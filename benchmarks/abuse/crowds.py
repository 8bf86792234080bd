"""Attacks by many who do next to nothing: they are there, and the server waits for them."""

import asyncio

from benchmarks.abuse.clients import Client, Field, Refused

FOR_EVER = 3600.0
#: Seconds between two octets.
TRICKLE = 0.5
_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(500)  # the beginning of a ClientHello (RFC 8446 §4.1.2)


async def connects(field: Field, number: int) -> None:
    """Says nothing at all."""
    client = await field.greeted()
    field.arrive(number)
    await _stay(client)


async def is_idle(field: Field, number: int) -> None:
    """Says LHLO and no more."""
    client = await field.introduced()
    field.arrive(number)
    await _stay(client)


async def begins_transaction(field: Field, number: int) -> None:
    """Leaves it open."""
    client = await field.in_transaction(number)
    field.arrive(number)
    await _stay(client)


async def begins_content(field: Field, number: int) -> None:
    """8 KiB of content in small pieces, and no end."""
    client = await field.in_content(number)
    await client.say(b"Subject: never ends\r\n\r\n")
    for _ in range(8):
        await client.say(b"x" * 1022 + b"\r\n")
    field.arrive(number)
    await _stay(client)


async def vanishes(field: Field, number: int) -> None:
    """Its machine is gone in the middle of the content: no FIN, no RST, and nothing is ever answered."""
    client = await field.in_content(number)
    await client.say(b"Subject: gone\r\n\r\n")
    client.vanish()
    field.counts["vanished"] += 1
    field.arrive(number)
    await asyncio.sleep(FOR_EVER)


async def half_closes(field: Field, number: int) -> None:
    """Sends a message for 100 recipients, closes its half and reads the replies, one octet at a time."""
    client = await field.introduced()
    to = b"".join(b"RCPT TO:<r%d.%d@example.org>\r\n" % (number % 10, each) for each in range(100))
    await client.ask(b"MAIL FROM:<s@attacker.example>\r\n" + to + b"DATA\r\n")
    await client.say(b"Subject: half\r\n\r\nclosed\r\n.\r\n")
    client.half_close()
    field.arrive(number)
    while True:
        await client.hear()
        await asyncio.sleep(TRICKLE)


async def trickles_commands(field: Field, number: int) -> None:
    """A command line that never ends, octet by octet."""
    client = await field.introduced()
    await _trickle(field, number, client, b"MAIL FROM:<" + b"a" * 400)


async def trickles_data(field: Field, number: int) -> None:
    """Content, octet by octet, and not a line end among them."""
    await _trickle(field, number, await field.in_content(number), b"Subject: " + b"a" * 400)


async def trickles_chunks(field: Field, number: int) -> None:
    """A chunk of a million octets, octet by octet."""
    client = await field.in_transaction(number)
    await client.say(b"BDAT 1000000\r\n")
    await _trickle(field, number, client, b"Subject: " + b"a" * 400)


async def trickles_handshake(field: Field, number: int) -> None:
    """TLS from the first octet, whose handshake comes octet by octet."""
    await _trickle(field, number, await field.connect(field.tls_port), _HELLO)


async def trickles_starttls(field: Field, number: int) -> None:
    """STARTTLS, and then the handshake octet by octet."""
    client = await field.introduced()
    await client.ask(b"STARTTLS\r\n")
    await _trickle(field, number, client, _HELLO)


async def trickles_proxy_header(field: Field, number: int) -> None:
    """A PROXY header that never ends."""
    await _trickle(field, number, await field.connect(field.proxy_port), b"PROXY TCP4 192.0.2.1 " + b"1" * 80)


async def starts_tls(field: Field, number: int) -> None:
    """STARTTLS, a handshake, LHLO, and no more."""
    client = await field.introduced()
    await client.ask(b"STARTTLS\r\n")
    encrypted = await client.start_tls()
    await encrypted.ask(b"LHLO attacker.example\r\n")
    field.arrive(number)
    await _stay(encrypted)


async def _trickle(field: Field, number: int, client: Client, data: bytes) -> None:
    field.arrive(number)
    for place in range(len(data)):
        await client.say(data[place : place + 1])
        await asyncio.sleep(TRICKLE)
    raise Refused("all was said")


async def _stay(client: Client) -> None:
    await client.hear()
    raise Refused("the server spoke")
