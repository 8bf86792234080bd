"""
What a worker has from its parent instead of reading it: the parent may have read it with privileges that are gone, or
while it was right.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class PemContents:
    """
    What files of certificates and keys held.

    :ivar signature: of the files as they were then.
    :ivar octets: by their paths.
    """

    signature: str
    octets: Mapping[str, bytes] = attrs.field(repr=False)


@attrs.define
class Given:
    """
    It changes when the parent says so.

    :ivar file: where the configuration is, absolute; ``None`` where there is none.
    :ivar text: what it says.
    :ivar pems: of each set of files, by their paths, what they held.
    :ivar generation: counts the configurations that the parent has had.
    """

    file: str | None = None
    text: str | None = attrs.field(default=None, repr=False)
    pems: Mapping[tuple[str | None, ...], PemContents] = attrs.field(factory=dict, repr=False)
    generation: int = 0
