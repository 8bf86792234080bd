"""How someone else adds a backend."""

from lmtp_twisted.backends.plugin import BackendPlugin

acme_backend = BackendPlugin(
    "acme", "Delivers to Acme.", "acme_backend.from_description", "ENDPOINT", {"speed": "how fast (default 1)"}
)
