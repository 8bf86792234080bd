"""
``first:`` and ``all:`` make one backend of several. They stand wherever a backend is described, also within each other.
"""

from __future__ import annotations

from lmtp_twisted.backends.context import BackendContext
from lmtp_twisted.fallback import FirstOf
from lmtp_twisted.fanout import AllOf
from lmtp_twisted.interfaces import ILMTPDeliveryFactory

# No key of an option: what stands before it has options of its own, and these would end the reading of ours.
_THEN, _AND = ",then=", ",and="


def first_from_description(context: BackendContext, argument: str) -> FirstOf:
    """``first:BACKEND,then=BACKEND``"""
    return FirstOf(_backends(context, argument, _THEN))


def all_from_description(context: BackendContext, argument: str) -> AllOf:
    """``all:BACKEND,and=BACKEND``"""
    return AllOf(_backends(context, argument, _AND))


def _backends(context: BackendContext, argument: str, separator: str) -> list[ILMTPDeliveryFactory]:
    descriptions = argument.split(separator)
    if len(descriptions) < 2:
        raise ValueError(f"it needs several backends, as in BACKEND{separator}BACKEND, not {argument!r}")
    return [context.build(description) for description in descriptions]
