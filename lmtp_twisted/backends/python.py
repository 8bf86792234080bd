"""
``python:package.module:attribute`` calls the operator's own code. The attribute is one of

- a function of a message and a recipient, called for each recipient: its result is that one's outcome. It may be a
  coroutine function or return a Deferred; with ``threads=yes`` it may block instead;
- a delivery factory, or any other object that :class:`~lmtp_twisted.factory.LMTPFactory` takes as a backend;
- a class of such objects, called without arguments; or a class of deliveries, called for each message.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.backends.description import YES_OR_NO, choose
from lmtp_twisted.callables import RecipientCallable, deliveries_of
from lmtp_twisted.envelope import Recipient
from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory, IReceivedMessage
from lmtp_twisted.session import SessionInfo


def from_description(context: BackendContext, argument: str, *, threads: str = "no") -> ILMTPDeliveryFactory:
    """``python:PACKAGE.MODULE:ATTRIBUTE``"""
    in_threads = choose("threads", threads, YES_OR_NO)
    target = _import(argument, context.directory or os.getcwd())
    if isinstance(target, type):
        target = _OneForEach(target) if _makes_deliveries(target) else target()
    if _is_function(target):
        _check_function(target, argument, in_threads)
        if in_threads:
            target = _InThreads(context.reactor, context.pool, target)
        return deliveries_of(None, target, None)
    if in_threads:
        raise ValueError(f"threads=yes is for functions, and {argument} is {target!r}")
    try:
        return deliveries_of(target, None, None)
    except TypeError as error:
        raise ValueError(f"{argument} is neither a function nor a delivery factory: {error}") from error


def _import(argument: str, directory: str) -> Any:
    module_name, _, path = argument.partition(":")
    if not (module_name and path):
        raise ValueError(f"it needs package.module:attribute, not {argument!r}")
    # Last, unlike ``python -m``: a stray file must not take the place of an installed module. And as an absolute path,
    # since a daemon changes its directory.
    if directory not in sys.path:
        sys.path.append(directory)
    try:
        target: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f"cannot import {module_name}: {_one_line(error)}") from error
    for name in path.split("."):
        try:
            target = getattr(target, name)
        except AttributeError as error:
            raise ValueError(f"{argument}: {_one_line(error)}") from error
    return target


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, (ImportError, AttributeError)) and text else f"{type(error).__name__}: {text}"


def _makes_deliveries(target: type) -> bool:
    return bool(ILMTPDelivery.implementedBy(target)) and not hasattr(target, "getDelivery")


@implementer(ILMTPDeliveryFactory)
@attrs.frozen(eq=False)
class _OneForEach:
    """A class of deliveries as a factory of them."""

    make: Callable[[], ILMTPDelivery]

    def getDelivery(self, session: SessionInfo) -> ILMTPDelivery:
        return self.make()


def _is_function(target: Any) -> bool:
    return callable(target) and not callable(getattr(target, "getDelivery", None))


def _check_function(function: Any, argument: str, in_threads: bool) -> None:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise ValueError(f"{argument} is not a function of a message and a recipient: {error}") from error
    except ValueError:
        # Not all that is written in C tells its parameters.
        pass
    if in_threads and inspect.iscoroutinefunction(function):
        raise ValueError(f"threads=yes is for functions that block, and {argument} is a coroutine function")


class _InThreads:
    """
    A function that blocks, as one that does not. It gets no more than half of the pool's threads, which also write
    the files of others.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, function: RecipientCallable) -> None:
        self._reactor = reactor
        self._pool = pool
        self._function = function
        self._turns = DeferredSemaphore(max(1, pool.max // 2))

    def __call__(self, message: IReceivedMessage, recipient: Recipient) -> Deferred[Any]:
        return self._turns.acquire().addCallback(lambda _: self._call(message, recipient))

    def _call(self, message: IReceivedMessage, recipient: Recipient) -> Deferred[Any]:
        is_cancelled = False

        def cancel(_: Deferred[Any]) -> None:
            nonlocal is_cancelled
            is_cancelled = True

        def call() -> Any:
            if is_cancelled:
                raise CancelledError
            outcome = self._function(message, recipient)
            if inspect.isawaitable(outcome):
                if inspect.iscoroutine(outcome):
                    outcome.close()
                raise TypeError("with threads=yes a function gives its outcome, and nothing to wait for")
            return outcome

        def finish(success: bool, result: Any) -> None:
            self._reactor.callFromThread(answer, success, result)

        def answer(success: bool, result: Any) -> None:
            # Not when it is cancelled: the thread is busy as long as the function runs.
            self._turns.release()
            if not is_cancelled:
                done.callback(result) if success else done.errback(result)

        done: Deferred[Any] = Deferred(cancel)
        self._pool.callInThreadWithCallback(finish, call)
        return done
