"""
``/inbox``: what ``memory:`` backends keep, for people and for programs. What came by mail is never part of a page of
ours but as text: HTML is a document of its own, in which nothing runs or loads, and all else is a download.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.web.http import BAD_REQUEST, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource

from lmtp_twisted.daemon.inbox.decoding import Decoder
from lmtp_twisted.daemon.inbox.parts import Part
from lmtp_twisted.daemon.inbox.reading import html_document, part_of, read_message
from lmtp_twisted.daemon.members import Members
from lmtp_twisted.daemon.web.answering import Answer, LateResource, json_answer, no_such_thing, text_answer
from lmtp_twisted.daemon.web.changes import Changes, revision_of
from lmtp_twisted.daemon.web.inbox_page import list_page, message_page
from lmtp_twisted.daemon.web.shipped import shipped
from lmtp_twisted.threads import default_pool

T = TypeVar("T")

#: Seconds that one may wait for a message in one request.
MOST_SECONDS = 60
# Messages that are read and taken apart at a time: each may have 64 MiB.
_MOST_AT_A_TIME = 2
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: For HTML that came by mail. Pictures that it brings itself are shown; nothing else is loaded, whatever it says.
_HTML_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
_NUMBER = re.compile(r"[0-9]{1,4}")


def html_answer(document: str) -> Answer:
    """A page of ours."""
    return Answer(document.encode("utf-8", "replace"), "text/html; charset=utf-8", _PAGE_POLICY)


@attrs.define(eq=False)
class Kept:
    """
    What there is to show.

    :ivar members: who has it.
    :ivar reactor: the clock.
    """

    members: Members
    reactor: Any
    changes: Changes = attrs.field(init=False)
    _slots: DeferredSemaphore = attrs.field(factory=lambda: DeferredSemaphore(_MOST_AT_A_TIME), init=False)

    def __attrs_post_init__(self) -> None:
        self.changes = Changes(self.members, self.reactor)

    async def list(self, wanted: Mapping[str, str]) -> dict[str, Any]:
        """The messages of all processes that have what is wanted, the latest last."""
        answers = await self.members.ask("inbox", dict(wanted))
        messages = [message for answer in answers.values() for message in answer["messages"]]
        return {
            "backends": sorted({label for answer in answers.values() for label in answer["labels"]}),
            "revision": revision_of(answers),
            "count": sum(answer["count"] for answer in answers.values()),
            "messages": sorted(messages, key=lambda message: str(message["received"])),
        }

    async def facts(self, key: str) -> Mapping[str, Any] | None:
        """
        :param key: of a message.
        :returns: what is known of it; ``None`` where there is no such message.
        """
        found = await self._ask(key, 0)
        return None if found is None else found[0]

    async def blocks(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """
        :param key: of a message.
        :param start: where to begin in its content.
        :param end: where to end.
        :returns: what is between, in blocks that are asked for one by one.
        :raises LookupError: where the message is not kept any more.
        """
        while start < end:
            found = await self._ask(key, start)
            if found is None or not found[1]:
                raise LookupError("the message is not kept any more")
            yield found[1][: end - start]
            start += len(found[1])
            # Mail has its turn between two of them.
            await deferLater(self.reactor, 0)

    async def _ask(self, key: str, start: int) -> tuple[Mapping[str, Any], bytes] | None:
        answers = await self.members.ask("message", {"key": key, "start": start})
        answer = next(filter(None, answers.values()), None)
        return None if answer is None else (answer, b64decode(answer.pop("block")))

    async def read(self, key: str, make: Callable[[Mapping[str, Any], bytes], T]) -> T | None:
        """
        :param key: of a message.
        :param make: called in a thread with what is known of the message and its content.
        :returns: what it made; ``None`` where there is no such message.
        """
        await self._slots.acquire()
        try:
            facts = await self.facts(key)
            if facts is None:
                return None
            blocks = [block async for block in self.blocks(key, 0, facts["size"])]
            pool = default_pool(self.reactor)
            made: T = await deferToThreadPool(self.reactor, pool, lambda: make(facts, b"".join(blocks)))
            return made
        except LookupError:
            return None
        finally:
            self._slots.release()


def add_inbox(root: Resource, members: Members, reactor: Any) -> None:
    """Have a site show what is kept."""
    kept = Kept(members, reactor)
    root.putChild(b"inbox", _Page(kept))
    root.putChild(b"inbox.json", _List(kept))


class _List(LateResource):
    """``/inbox.json``"""

    isLeaf = True

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self._kept = kept

    async def get(self, request: Any) -> Answer:
        given = {name.decode("latin-1"): values[-1].decode("utf-8", "replace") for name, values in request.args.items()}
        wanted = {name: given.pop(name) for name in ("to", "from", "subject", "backend") if name in given}
        seconds, count = given.pop("wait", "0"), given.pop("count", "1")
        after = given.pop("after", None)
        if given or not (_NUMBER.fullmatch(seconds) and _NUMBER.fullmatch(count) and int(seconds) <= MOST_SECONDS):
            return text_answer(
                f"The parameters are to, from, subject, backend, count, after, and wait: 0 to {MOST_SECONDS} s",
                BAD_REQUEST,
            )
        deadline = self._kept.reactor.seconds() + int(seconds)
        while True:
            found = await self._kept.list(wanted)
            left = deadline - self._kept.reactor.seconds()
            if left <= 0 or (found["count"] >= int(count) if after is None else found["revision"] != after):
                return json_answer(found)
            if self._kept.changes.is_full:
                return text_answer("Too many wait already", SERVICE_UNAVAILABLE)
            await self._kept.changes.after(found["revision"], left)

    def render_DELETE(self, request: Any) -> object:
        """
        Forget all. Pages of strangers can't: a browser asks before it sends DELETE for them, and nobody here says yes.
        """
        return self.answer(request, self._clear())

    async def _clear(self) -> Answer:
        answers = await self._kept.members.ask("clear_inbox")
        return json_answer({"forgotten": sum(answers.values())})


class _Page(LateResource):
    """``/inbox``, and all below it."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self._kept = kept
        self.putChild(b"inbox.css", _Asset(shipped("look.css", "inbox.css"), "text/css; charset=utf-8"))
        self.putChild(b"inbox.js", _Asset(shipped("inbox.js"), "text/javascript; charset=utf-8"))

    async def get(self, request: Any) -> Answer:
        return html_answer(list_page(await self._kept.list({})))

    def getChild(self, path: bytes, request: Any) -> Resource:
        """A message."""
        if not path:
            return self
        name = path.decode("latin-1")
        is_data = name.endswith(".json") and not request.postpath
        return _Message(self._kept, name.removesuffix(".json") if is_data else name, is_data)


class _Asset(LateResource):
    isLeaf = True

    def __init__(self, text: str, content_type: str) -> None:
        super().__init__()
        self._answer = Answer(text.encode(), content_type)

    async def get(self, request: Any) -> Answer:
        return self._answer


class _Message(LateResource):
    """``/inbox/KEY``, ``/inbox/KEY.json``, ``/inbox/KEY/raw``, ``/inbox/KEY/parts/N`` and ``/inbox/KEY/html/N``."""

    isLeaf = True

    def __init__(self, kept: Kept, key: str, is_data: bool) -> None:
        super().__init__()
        self._kept = kept
        self._key = key
        self._is_data = is_data

    async def get(self, request: Any) -> Answer:
        path = [part.decode("latin-1") for part in request.postpath]
        if path == ["raw"]:
            answer = await self._raw()
        elif len(path) == 2 and path[0] == "parts" and _NUMBER.fullmatch(path[1]):
            answer = await self._part(int(path[1]))
        else:
            make = self._maker(path)
            answer = None if make is None else await self._kept.read(self._key, make)
        return answer or no_such_thing()

    def _maker(self, path: list[str]) -> Callable[[Mapping[str, Any], bytes], Answer | None] | None:
        """What makes the answer of a message, in a thread."""
        if not path and self._is_data:
            return lambda facts, content: json_answer(read_message(facts, content))
        if not path:
            return lambda facts, content: html_answer(message_page(read_message(facts, content)))
        if len(path) == 2 and path[0] == "html" and _NUMBER.fullmatch(path[1]):
            return lambda facts, content: _foreign_html(content, int(path[1]))
        return None

    async def _raw(self) -> Answer | None:
        facts = await self._kept.facts(self._key)
        if facts is None:
            return None
        size = facts["size"]
        blocks = self._kept.blocks(self._key, 0, size)
        return Answer(blocks, "text/plain; charset=utf-8", headers={"content-length": str(size)})

    async def _part(self, number: int) -> Answer | None:
        """A part, of a type that no browser shows."""
        part = await self._kept.read(self._key, lambda facts, content: part_of(content, number))
        if part is None:
            return None
        name = re.sub(r"[/\\]", "_", part.file_name or "").lstrip(".") or f"part-{number}"
        plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", name)
        disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
        octets = self._decoded(part)
        return Answer(octets, "application/octet-stream", headers={"content-disposition": disposition})

    async def _decoded(self, part: Part) -> AsyncIterator[bytes]:
        decoder = Decoder(part.encoding)
        async for block in self._kept.blocks(self._key, part.start, part.end):
            yield decoder.feed(block)
        yield decoder.end()


def _foreign_html(content: bytes, number: int) -> Answer | None:
    document = html_document(content, number)
    if document is None:
        return None
    # Not even the name of a host that a link leads to is looked up.
    return Answer(document, "text/html; charset=utf-8", _HTML_POLICY, headers={"x-dns-prefetch-control": "off"})
