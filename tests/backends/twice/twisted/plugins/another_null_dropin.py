"""A backend with a name that is taken."""

from lmtp_twisted.backends.plugin import BackendPlugin

another_null = BackendPlugin("null", "Another one.", "another.null")
