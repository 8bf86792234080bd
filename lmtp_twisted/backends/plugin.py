"""
A backend type as a Twisted plugin that costs nothing until it is used.

Every ``twistd`` imports all plugin modules, so these hold such objects and the backends themselves are imported when
the first of them is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer

from lmtp_twisted.interfaces import IDeliveryBackendPlugin


@implementer(IPlugin, IDeliveryBackendPlugin)
@attrs.frozen(eq=False)
class BackendPlugin:
    """
    See :class:`~lmtp_twisted.interfaces.IDeliveryBackendPlugin`.

    :ivar backendType: the word before the first colon.
    :ivar description: one line of help.
    :ivar maker: the full name of a function ``(context, argument, **options)``, such as
        ``"package.module.from_description"``: it is imported when it is first called.
    :ivar argumentHelp: what the argument is.
    :ivar options: a line of help for each option.
    """

    backendType: str
    description: str
    maker: str
    argumentHelp: str = ""
    options: Mapping[str, str] = attrs.field(factory=dict)

    def fromDescription(self, context: Any, argument: str, **options: str) -> Any:
        """Make the backend."""
        return namedAny(self.maker)(context, argument, **options)
