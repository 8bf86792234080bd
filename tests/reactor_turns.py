"""Turns of the reactor, one by one."""

from __future__ import annotations

from twisted.internet.task import Clock


def turn(clock: Clock) -> None:
    """One turn of the reactor. ``Clock.advance`` goes on as long as there is something to do now."""
    for call in [call for call in clock.calls if call.getTime() <= clock.seconds()]:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)
