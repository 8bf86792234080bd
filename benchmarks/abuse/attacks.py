"""The attacks: what each session does, and what they are called."""

from collections.abc import Awaitable, Callable

from attrs import frozen

from benchmarks.abuse import crowds, floods, hoards
from benchmarks.abuse.clients import Field

Session = Callable[[Field, int], Awaitable[None]]


@frozen
class Attack:
    """
    :ivar name: on the command line.
    :ivar sessions: at a time.
    :ivar does: in a line of the table; ``{sessions}`` stands for their number.
    :ivar session: what each of them does, until it is stopped.
    :ivar options: of the server.
    :ivar has_slow_disk: each write to the spool and each sync takes a while, see :mod:`benchmarks.abuse.slow_disk`.
    :ivar seconds: that it lasts once all are in their places.
    :ivar leaves_room: whether new sessions are let in meanwhile; where not, only one that was there before can deliver.
    :ivar quick: sessions of it in the tests; 0 where it is not among them.
    """

    name: str
    sessions: int
    does: str
    session: Session
    options: tuple[str, ...] = ()
    has_slow_disk: bool = False
    seconds: float = 5.0
    leaves_room: bool = True
    quick: int = 0


_MANY = ("--max-sessions", "10000")
_NEVER = ("--route", "*@never.example=python:benchmarks.abuse.never:deliver", "--drain-timeout", "1")

ATTACKS = [
    # Many who are there.
    Attack("connected", 900, "connect and say nothing", crowds.connects),
    Attack("idle", 9900, "say LHLO and no more", crowds.is_idle, _MANY),
    Attack(
        "full",
        9999,
        "say LHLO and no more, which leaves room for one session",
        crowds.is_idle,
        _MANY,
        leaves_room=False,
    ),
    Attack("transactions", 9900, "begin a transaction and stay in it", crowds.begins_transaction, _MANY),
    Attack("contents", 9900, "send 8 KiB of a message and no end", crowds.begins_content, _MANY),
    Attack("tls", 5000, "STARTTLS, and no more", crowds.starts_tls, _MANY),
    Attack("slow-commands", 900, "a command line, octet by octet", crowds.trickles_commands),
    Attack("slow-data", 900, "DATA content, octet by octet", crowds.trickles_data),
    Attack("slow-chunks", 900, "a BDAT chunk, octet by octet", crowds.trickles_chunks, quick=200),
    Attack("slow-handshake", 900, "a TLS handshake, octet by octet", crowds.trickles_handshake),
    Attack("slow-starttls", 900, "the same after STARTTLS", crowds.trickles_starttls),
    Attack("slow-proxy", 1500, "a PROXY header, octet by octet", crowds.trickles_proxy_header),
    Attack("half-open", 900, "vanish in the middle of the content, with no FIN and no RST", crowds.vanishes),
    Attack("half-closed", 300, "send a message, close their half, read slowly", crowds.half_closes),
    # Many who are busy.
    Attack("rubbish", 100, "garbage, and again when sent away", floods.talks_rubbish),
    Attack("rubbish-between", 200, "garbage, with a NOOP in time", floods.rubbish_between, quick=50),
    Attack("noop", 200, "NOOP without a pause", floods.noops, quick=100),
    Attack("noop-900", 900, "NOOP without a pause", floods.noops),
    Attack("vrfy", 200, "VRFY of ever other names", floods.verifies),
    Attack("rset", 200, "MAIL, five RCPT, RSET, with ever other addresses", floods.resets, quick=50),
    Attack("rcpt", 200, "1500 RCPT with ever other addresses, RSET", floods.names_recipients),
    Attack("empty-chunks", 200, "BDAT 0, without an end", floods.empty_chunks),
    Attack("tiny-chunks", 200, "BDAT 1, without an end", floods.tiny_chunks),
    Attack("long-lines", 200, "a command line without an end, at full speed", floods.long_lines),
    Attack("long-content", 200, "a line of content without an end, at full speed", floods.long_content_lines),
    Attack("connections", 50, "connect and close, at full speed", floods.connects_and_closes),
    Attack(
        "refused", 1500, "connect and say nothing, 500 more than there is room for", crowds.connects, leaves_room=False
    ),
    Attack("handshakes", 200, "TLS handshakes and nothing behind them", floods.handshakes),
    Attack("auth", 200, "AUTH with wrong passwords, and again when sent away", floods.guesses_passwords),
    Attack("messages", 50, "messages with ever other long addresses and all parameters", floods.sends_messages),
    # Many who want memory.
    Attack("unread", 900, "HELP by the megabyte, replies never read", hoards.reads_no_replies),
    Attack(
        "unread-final",
        900,
        "a message for 1000 recipients, replies never read",
        hoards.reads_no_final_replies,
        ("--route", "*@null.example=null:"),
        quick=30,
    ),
    Attack("recipients", 300, "1000 long recipients with parameters, and no more", hoards.names_many),
    Attack("memory", 900, "900 kB of a message, and no end", hoards.keeps_below_threshold),
    Attack("headers", 900, "a header block of 1 MB, then content, and no end", hoards.has_large_header, quick=100),
    Attack("large", 100, "messages of 4 MB", hoards.sends_large),
    Attack("long-auth", 9900, "12 kB of a response to AUTH, and no end", hoards.long_auth, _MANY),
    Attack(
        "never",
        900,
        "a delivery that never ends, and 200 kB of commands behind it",
        hoards.waits_for_ever,
        _NEVER,
        quick=200,
    ),
    Attack("slow-spool", 100, "messages of 2 MB to a slow disk", hoards.spools, has_slow_disk=True, quick=60),
    Attack("slow-maildir", 200, "messages for Maildirs on a slow disk", hoards.fills_maildirs, has_slow_disk=True),
]
