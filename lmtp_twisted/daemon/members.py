"""
The processes that serve mail, as whoever shows something of the server asks them: one, or the workers of a parent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

_log = Logger(namespace="lmtp_twisted")

#: By the name of a question: a function of the process that serves mail. It gets the question's argument and returns
#: what JSON can hold, at once and of no more than 4 MiB.
Answers = Mapping[str, Callable[[Any], Any]]


class Members(Protocol):
    """The processes that serve mail."""

    def ask(self, question: str, argument: Any = None) -> Deferred[dict[str, Any]]:
        """
        Ask all of them.

        :param question: the name of what is wanted.
        :param argument: what JSON can hold.
        :returns: fires with the answers by a key that names the process and never comes again. Who does not answer
            within a second, or does not know the question, is not in it.
        """


class Alone:
    """
    The only process, which is this one.

    :param answers: what can be asked.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def ask(self, question: str, argument: Any = None) -> Deferred[dict[str, Any]]:
        """See :class:`Members`."""
        answer = self._answers.get(question)
        if answer is None:
            return succeed({})
        try:
            return succeed({"0": answer(argument)})
        except Exception:
            _log.failure("the question {question!r} was not answered", question=question)
            return succeed({})
