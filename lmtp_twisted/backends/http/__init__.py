"""``http:`` posts messages to a web application, which answers for each recipient."""

from lmtp_twisted.backends.http.backend import HTTPBackend, Per, from_description

__all__ = ["HTTPBackend", "Per", "from_description"]
