"""What goes wrong."""

from __future__ import annotations

import enum
from random import Random

import attrs

from lmtp_twisted.wire.replies import Reply


class Order(enum.Enum):
    """In which order the recipients of a message are done with."""

    #: That of the RCPT commands: each reply is sent as soon as it is known.
    GIVEN = "given"
    #: The last comes first: no reply can be sent before all are known.
    REVERSED = "reversed"
    #: As the seed says.
    SHUFFLED = "shuffled"


@attrs.frozen
class Refuse:
    """
    An answer that refuses.

    :ivar reply: of class 4 or 5.
    :ivar delivered: whether the message is delivered all the same: the client does not know, and sends it again.
    """

    reply: Reply = Reply(451, "4.3.0", "Refused on purpose")
    delivered: bool = False


@attrs.frozen
class Hang:
    """
    No answer, until the server's time for deliveries is over: 451 4.4.7 then.

    :ivar delivered: as that of :class:`Refuse`.
    """

    delivered: bool = False


@attrs.frozen
class Drop:
    """
    The connection ends in the place of the answer. Recipients whose final reply is not sent are not delivered.

    :ivar replies: after so many final replies of a message, where it has that many recipients; ``None``: in the place
        of the first reply to one that is at fault.
    :ivar octets: so many of the reply, which would be a positive one, are sent all the same.
    :ivar reset: with RST and not with FIN.
    :ivar delivered: whether all are delivered, before: RFC 1047's duplicates.
    """

    replies: int | None = None
    octets: int = 0
    reset: bool = False
    delivered: bool = False


@attrs.define
class Delay:
    """
    An answer that comes late. After the dot the message is delivered at once, and only the answer is late.

    :ivar seconds: at the first time.
    :ivar grow: what is added each time.
    :ivar most: seconds at the most; ``None`` for no bound.
    :ivar up_to: where it is given, each time is a random one from ``seconds`` to this.
    :ivar seed: for these: the same seed, the same times.
    """

    seconds: float = 1.0
    grow: float = 0.0
    most: float | None = None
    up_to: float | None = None
    seed: int = 0
    _random: Random = attrs.field(init=False, repr=False, eq=False)
    _times: int = attrs.field(init=False, default=0, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311  # a test shall be able to foresee it

    def next(self) -> float:
        """For how long the next answer is held back, in seconds."""
        seconds = self.seconds if self.up_to is None else self._random.uniform(self.seconds, self.up_to)
        seconds += self.grow * self._times
        self._times += 1
        return seconds if self.most is None else min(seconds, self.most)


@attrs.define
class Stagger:
    """
    The recipients of a message are done with one after the other, in an order of your choice. The message is delivered
    at once.

    :ivar seconds: between two of them, and before the first.
    :ivar order: which is first.
    :ivar seed: for the order that is shuffled.
    """

    seconds: float = 1.0
    order: Order = Order.GIVEN
    seed: int = 0
    _random: Random = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311  # a test shall be able to foresee it

    def waits(self, count: int) -> list[float]:
        """For how long the outcome of each of so many recipients is held back, in seconds."""
        turns = list(range(1, count + 1))
        if self.order is Order.REVERSED:
            turns.reverse()
        elif self.order is Order.SHUFFLED:
            self._random.shuffle(turns)
        return [turn * self.seconds for turn in turns]


Kind = Refuse | Hang | Drop | Delay | Stagger
