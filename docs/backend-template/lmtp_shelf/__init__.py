"""A backend for lmtp-twisted: each message becomes a file of a directory."""
