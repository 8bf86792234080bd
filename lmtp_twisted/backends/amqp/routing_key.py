"""
Recipient → routing key: names are data. What could be read as more than one word, or as a wildcard by who binds, is
escaped here and nowhere else.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote

from lmtp_twisted.backends.amqp.refusals import no_such_name
from lmtp_twisted.wire.addresses import Address

#: Octets of a routing key: a short string of AMQP 0-9-1 §4.2.5.3.
MAX_KEY = 255

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("local", "domain")
# Of what can stand in a local part without quotes (RFC 5321 §4.1.2): all but the percent sign itself, and what means
# something in the key of a binding: a star and a hash are wildcards, and a dot ends a word.
_PLAIN = "!$&'+/=?^_`{|}~-"


class RoutingKey:
    """
    How routing keys are made.

    :param template: with the placeholders ``{local}`` and ``{domain}``, or none.
    :param hostname: the domain of recipients that have none, such as ``<Postmaster>``.
    :raises ValueError: where it has other placeholders, or is too long by itself.
    """

    def __init__(self, template: str, hostname: str) -> None:
        for name in _PLACEHOLDER.findall(template):
            if name not in _KNOWN:
                raise ValueError(f"{{{name}}} is unknown: a routing key may hold {{local}} and {{domain}}")
        if len(template.encode()) > MAX_KEY or not template.isprintable():
            raise ValueError(f"a routing key has at most {MAX_KEY} octets, all of them printable")
        self._template = template
        self._hostname = hostname
        # The same recipients come again and again. Refusals are raised anew each time and fill nothing.
        self.of = lru_cache(maxsize=4096)(self._of)

    def _of(self, address: Address) -> str:
        """
        The key of a recipient, in lower case. A local part is one word: a dot in it is ``%2E``. The labels of a domain
        are words of their own.

        :raises lmtp_twisted.errors.PermanentFailure: ``553 5.1.3`` where the key would be too long.
        """
        values = {
            "local": quote(_folded(address.local), _PLAIN).replace(".", "%2E"),
            "domain": quote(_folded(address.domain or self._hostname), ".[]:"),
        }
        key = _PLACEHOLDER.sub(lambda match: values[match[1]], self._template)
        if len(key.encode()) > MAX_KEY:
            raise no_such_name()
        return key


def _folded(part: str) -> str:
    """In lower case and Unicode's normal form C (RFC 6530 §10.1): what looks the same is the same recipient."""
    return unicodedata.normalize("NFC", part).lower()
