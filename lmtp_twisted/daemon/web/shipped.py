"""Files of pages that come with the package."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).resolve().parent / "assets"


def shipped(*names: str) -> str:
    """
    :param names: of files below ``assets/``.
    :returns: their text, one behind the other.
    """
    return "\n".join((_ASSETS / name).read_text("utf-8") for name in names)
