"""
What the methods of a delivery may return, brought to one form: a plain value, or a Deferred where there is something
to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred

_PLAIN = (str, list, tuple, bool)


def deferred_of(result: object) -> Deferred[Any] | None:
    """
    :param result: what a method of an application returned.
    :returns: ``None`` for a plain value; else a Deferred of what the Deferred, coroutine, :class:`asyncio.Future` or
        other awaitable gives.
    :raises RuntimeError: for a future of asyncio, where Twisted does not run on asyncio's loop.
    """
    if result is None or isinstance(result, _PLAIN):
        return None
    if isinstance(result, Deferred):
        return result
    if isinstance(result, CoroutineType):
        return Deferred.fromCoroutine(result)
    if asyncio.isfuture(result):
        if not result.get_loop().is_running():
            raise RuntimeError(
                "an awaitable of asyncio needs Twisted's asyncio reactor: "
                "twistd --reactor=asyncio, or asyncioreactor.install()"
            )
        return Deferred.fromFuture(result)
    if isinstance(result, Awaitable):
        return Deferred.fromCoroutine(_wait_for(result))
    return None


async def _wait_for(result: Awaitable[Any]) -> Any:
    return await result
