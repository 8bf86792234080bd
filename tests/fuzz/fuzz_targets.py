"""
What is fuzzed: functions that take any octets and fail where something is not as it must be.

Each says more than that nothing breaks: what was parsed is held against a second reading of the RFC, or written and
parsed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuzz_addresses import addresses
from fuzz_attributes import attributes
from fuzz_auth import auth
from fuzz_commands import commands
from fuzz_content import chunks, content
from fuzz_parameters import parameters
from fuzz_proxy import proxy
from fuzz_replies import replies
from fuzz_session import session

TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (addresses, parameters, commands, content, chunks, replies, attributes, proxy, auth, session)
}
