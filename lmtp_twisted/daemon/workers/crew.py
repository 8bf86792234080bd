"""All workers of a parent: started, asked, told of a new configuration, and brought to their end together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from lmtp_twisted.daemon.generation import tally_name
from lmtp_twisted.daemon.workers.inquiries import Inquiries
from lmtp_twisted.daemon.workers.tally import SharedTally, make_memory
from lmtp_twisted.daemon.workers.worker import Orders, Worker


class Crew:
    """
    The :class:`~lmtp_twisted.daemon.members.Members` of a server that has workers.

    :param reactor: the reactor.
    :param size: how many workers there are.
    :param orders: gives what each of them is told, with the number of the generation.
    """

    def __init__(self, reactor: Any, size: int, orders: Callable[[int], Orders]) -> None:
        memory = make_memory(size)
        # Whoever serves counts in a row of its own.
        self._tally = SharedTally(memory, size, None)
        self._serving: Deferred[None] = Deferred()
        self._inquiries = Inquiries(reactor)
        self._give_orders = orders
        self._generation = 0
        self._workers = [
            Worker(
                reactor=reactor,
                number=number,
                memory=memory,
                orders=self._orders,
                answered=self._inquiries.answer,
                begun=self._begun,
                ended=self._ended,
            )
            for number in range(1, size + 1)
        ]

    def start(self) -> Deferred[None]:
        """
        Start all of them. Not before the reactor runs, and privileges are given up.

        :returns: fires when the first one serves.
        """
        for worker in self._workers:
            worker.start()
        return self._serving

    def _begun(self) -> None:
        if not self._serving.called:
            self._serving.callback(None)

    @property
    def session_count(self) -> int:
        """The sessions of all workers."""
        return self._tally.total(tally_name(self._generation))

    @property
    def restarts(self) -> int:
        """How many workers were started in the place of one that had ended."""
        return sum(worker.restarts for worker in self._workers)

    def _orders(self) -> Orders:
        return self._give_orders(self._generation)

    def _ended(self, worker: Worker) -> None:
        # What it has counted is gone with its sessions.
        self._tally.clear(worker.number - 1)
        self._inquiries.gone(worker.key)

    def ask(self, question: str, argument: Any = None) -> Deferred[dict[str, Any]]:
        """See :class:`~lmtp_twisted.daemon.members.Members`."""
        serving = {worker.key: worker for worker in self._workers if worker.is_serving}
        return self._inquiries.ask(serving, question, argument)

    def reopen(self) -> None:
        """Have them open their log anew."""
        for worker in self._workers:
            worker.say({"reopen": True})

    def reload(self) -> Deferred[Any]:
        """
        There is another configuration, which has been found to be right.

        :returns: fires when all go by it.
        """
        self._generation += 1
        return gatherResults([worker.reload() for worker in self._workers])

    def stop(self, patience: float) -> Deferred[Any]:
        """
        Let them finish.

        :param patience: seconds after which they are killed.
        :returns: fires when all have ended.
        """
        return gatherResults([worker.stop(patience) for worker in self._workers])
