"""Where atheris can be had it is needed; elsewhere the mutations of hypothesis are all there is."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement


def _can_be_had() -> bool:
    """Whether setup.cfg asks for it on this Python and this system."""
    wanted = [Requirement(line) for line in requires("lmtp-twisted") or ()]
    return any(one.name == "atheris" and one.marker and one.marker.evaluate({"extra": "fuzz"}) for one in wanted)


collect_ignore = [] if _can_be_had() else ["test_fuzz_atheris.py"]
