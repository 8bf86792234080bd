"""Types of checkers that ``--auth`` can name, as :mod:`twisted.cred.strcred` finds them."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.cred.strcred import ICheckerFactory
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer


@implementer(ICheckerFactory, IPlugin)
@attrs.frozen(eq=False)
class CheckerPlugin:
    """
    See :class:`twisted.cred.strcred.ICheckerFactory`.

    :ivar function: the dotted name of what makes the checker; imported when it is needed.
    """

    authType: str
    argStringFormat: str
    authHelp: str
    credentialInterfaces: tuple[Any, ...]
    function: str

    def generateChecker(self, argstring: str) -> Any:
        """
        The checker.

        :raises ValueError: where the argument will not do.
        """
        return namedAny(self.function)(argstring)
