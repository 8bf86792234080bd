"""Attacks on memory: whatever a server may have to keep for a client, by many clients."""

import asyncio

from benchmarks.abuse.clients import Client, Field
from benchmarks.abuse.crowds import FOR_EVER

#: What the kernel keeps for a client that does not read: the least that it allows.
UNREAD = 4096
_LINE = b"x" * 1022 + b"\r\n"
_MEGABYTE = _LINE * 1024


def _long(number: int, each: int) -> bytes:
    """A forward-path of almost 256 octets (RFC 5321 §4.5.3.1.3), other than all others."""
    return b"r%d.%d.%b@%b.example.org" % (number, each, b"n" * 170, b"d" * 40)


async def reads_no_replies(field: Field, number: int) -> None:
    """Commands by the megabyte, whose replies it never reads."""
    client = await field.introduced(UNREAD)
    field.arrive(number)
    while True:
        await client.say(b"HELP\r\n" * 200_000)


async def reads_no_final_replies(field: Field, number: int) -> None:
    """A message for a thousand recipients with long names: half a megabyte of replies that it never reads."""
    client = await field.introduced(UNREAD)
    await client.ask(b"MAIL FROM:<s%d@attacker.example>\r\n" % number)
    for batch in range(10):
        to = b"".join(
            b"RCPT TO:<%b@null.example>\r\n" % _long(number, each)[:200].replace(b"@", b".")
            for each in range(batch * 100, batch * 100 + 100)
        )
        await client.ask(to)
    await client.ask(b"DATA\r\n")
    await client.say(b"Subject: unread\r\n\r\n.\r\n")
    field.arrive(number)
    await asyncio.sleep(FOR_EVER)


async def names_many(field: Field, number: int) -> None:
    """A thousand recipients with long addresses and the longest parameters, and then nothing."""
    client = await field.introduced()
    await client.ask(b"MAIL FROM:<s%d@attacker.example>\r\n" % number)
    for batch in range(20):
        to = b"".join(
            b"RCPT TO:<%b> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;%b%b\r\n"
            % (_long(number, each), b"o" * 230, _long(number, each))
            for each in range(batch * 50, batch * 50 + 50)
        )
        await client.ask(to)
    field.arrive(number)
    await client.hear()


async def keeps_below_threshold(field: Field, number: int) -> None:
    """900 kB of a message, which fits into memory, and no end."""
    client = await field.in_content(number)
    await client.say(b"Subject: large\r\n\r\n" + _LINE * 900)
    field.arrive(number)
    await client.hear()


async def has_large_header(field: Field, number: int) -> None:
    """A header block of 1 MB, then content for the disk, and no end."""
    client = await field.in_content(number)
    field_line = b"X-Filler: %b\r\n" % (b"h" * 60)
    await client.say(field_line * (1024 * 1024 // len(field_line)))
    await client.say(b"\r\n" + _LINE * 512)
    field.arrive(number)
    await client.hear()


async def sends_large(field: Field, number: int) -> None:
    """Messages of 4 MB, one after the other."""
    client = await field.introduced()
    field.arrive(number)
    while True:
        await client.ask(b"MAIL FROM:<s@attacker.example>\r\nRCPT TO:<large@null.example>\r\nDATA\r\n")
        await client.say(b"Subject: large\r\n\r\n" + _MEGABYTE)
        for _ in range(3):
            await client.say(_MEGABYTE)
        await client.ask(b".\r\n")


async def waits_for_ever(field: Field, number: int) -> None:
    """A message whose delivery never ends, and 200 kB of commands behind it."""
    client = await field.introduced()
    await client.ask(b"MAIL FROM:<s@attacker.example>\r\nRCPT TO:<r%d@never.example>\r\nDATA\r\n" % number)
    await client.say(b"Subject: for ever\r\n\r\n.\r\n")
    field.arrive(number)
    await client.say(b"NOOP\r\n" * 34_000)
    await client.hear()


async def long_auth(field: Field, number: int) -> None:
    """A response to AUTH of almost 12 kB, without its end."""
    client = await field.introduced()
    await client.say(b"AUTH PLAIN " + b"A" * 12_000)
    field.arrive(number)
    await client.hear()


async def spools(field: Field, number: int) -> None:
    """Messages of 2 MB to a disk that takes a while for each write."""
    await _repeat_spooling(await field.introduced(), field, number)


async def _repeat_spooling(client: Client, field: Field, number: int) -> None:
    field.arrive(number)
    while True:
        await client.ask(b"MAIL FROM:<s@attacker.example>\r\nRCPT TO:<spooled@null.example>\r\nDATA\r\n")
        await client.say(b"Subject: spooled\r\n\r\n" + _MEGABYTE + _MEGABYTE)
        await client.ask(b".\r\n")


async def fills_maildirs(field: Field, number: int) -> None:
    """Small messages for a Maildir on a disk that takes a while for each sync."""
    client = await field.introduced()
    field.arrive(number)
    while True:
        await client.ask(b"MAIL FROM:<s@attacker.example>\r\nRCPT TO:<r%d@slow.example>\r\nDATA\r\n" % number)
        await client.say(b"Subject: synced\r\n\r\n.\r\n")
        await client.replies()
