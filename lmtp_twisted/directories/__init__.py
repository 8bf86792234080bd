"""Directories of recipients: each is an :class:`~lmtp_twisted.interfaces.IRecipientDirectory`."""
