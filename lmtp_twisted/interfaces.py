"""
The contract, on one page: what an application gives to the server, and what it is given.

Two interfaces carry everything. An :class:`ILMTPDeliveryFactory` gives a delivery for each message; an
:class:`ILMTPDelivery` says yes or no to the sender and to each recipient, and then takes the message. A policy, a
router, a storage backend and an adapter are all the same thing, so they wrap and compose.

Any method of a delivery, and ``getDelivery``, may return a plain value, a :class:`~twisted.internet.defer.Deferred` or
a coroutine; with a plain value the session goes on at once. Awaitables of asyncio need Twisted's asyncio reactor.

The whole of a backend that keeps mail in a dictionary::

    from zope.interface import implementer
    from lmtp_twisted import LMTPFactory, PermanentFailure
    from lmtp_twisted.interfaces import ILMTPDelivery, ILMTPDeliveryFactory

    mail = {"alice@example.org": []}

    @implementer(ILMTPDelivery)
    class DictionaryDelivery:
        def validateFrom(self, sender):
            pass

        def validateTo(self, recipient):
            if str(recipient.address) not in mail:
                raise PermanentFailure("no such user here")

        def deliver(self, message):
            for recipient in message.recipients:
                mail[str(recipient.address)].append(message.read())
            return [None] * len(message.recipients)

        def aborted(self, reason):
            pass

    @implementer(ILMTPDeliveryFactory)
    class DictionaryDeliveries:
        def getDelivery(self, session):
            return DictionaryDelivery()

    factory = LMTPFactory(backend=DictionaryDeliveries())

**Outcomes.** ``deliver`` gives one outcome, or one awaitable of an outcome, for each of ``message.recipients``, in that
order. What each says to the client:

====================================================================  ==================================================
``None`` or ``True``                                                  ``250 2.0.0 <recipient> ID Delivered``
a ``str``                                                             the same code, with that text in place of
                                                                      ``Delivered``
a :class:`~lmtp_twisted.wire.replies.Reply`                           its code, enhanced code and text, where its code
                                                                      is of class 2, 4 or 5 and not 421
a :class:`~lmtp_twisted.errors.DeliveryError`                         as it says, raised by the awaitable or put in the
                                                                      list
anything else, any other exception, 421, a list of the wrong length   ``451 4.3.0 <recipient> ID``, and an error with
                                                                      its traceback in the log
====================================================================  ==================================================

Each of them names the recipient and the reply's ID before the text, so that a client that has miscounted can see it,
and an operator can search for it.

A 250 promises that the message survives: a delivery gives its outcome only once that is true.
"""

from __future__ import annotations

from twisted.cred.credentials import ICredentials
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface


class ILMTPDeliveryFactory(Interface):
    """
    Gives a delivery for a message. What a backend, a router or a policy *is*.

    It is also what a client is in terms of :mod:`twisted.cred`: the avatar that the portal's realm gives for who
    authenticated, with the :class:`~lmtp_twisted.session.SessionInfo` as the mind, takes the place of the server's
    backend for that session.
    """

    def getDelivery(session):  # type: ignore[no-untyped-def]  # zope methods have no self and are typed by docstring
        """
        Called once for each message, at its MAIL command, before ``validateFrom``; and once for each VRFY, see
        :class:`IVerifyingDelivery`.

        :param session: who is talking: a :class:`~lmtp_twisted.session.SessionInfo`.
        :returns: an :class:`ILMTPDelivery`, or an awaitable of one.
        :raises lmtp_twisted.errors.DeliveryError: to refuse the MAIL command, for instance with
            ``TemporaryFailure("busy", enhanced="4.3.2")`` where the backend has too much to do (RFC 3463 §3.4).
        """


class IMeasuredBackend(ILMTPDeliveryFactory):
    """
    A backend that tells figures of its own for metrics. The server asks each backend that was made from a description.
    """

    def figures():  # type: ignore[no-untyped-def]  # zope method
        """
        Asked once a second in the reactor thread, so it looks and does not wait.

        :returns: a mapping of at most 20 names to numbers: ``waiting``, ``working`` and ``connections`` for how many
            there are of now, and names of its own of small letters, digits and ``_``. One that ends in ``_total`` only
            grows. In place of a number may be ``{"buckets": {"1": 3, "10": 5, "+Inf": 0}, "sum": 41}``: how many of
            something were at most so large, each counted once, and their sum. Each is served as ``lmtp_backend_NAME``
            with the label ``backend``.
        """


class ILMTPDelivery(Interface):
    """
    One message's way through the application. State that belongs to one message lives here: what ``validateTo``
    looked up, a reservation, a batch.

    The calls come in this order: ``validateFrom`` once; ``validateTo`` for each RCPT command; then either ``deliver``
    once or ``aborted`` once. No call is made while the awaitable of the one before has not fired.
    """

    def validateFrom(sender):  # type: ignore[no-untyped-def]  # zope method
        """
        May this sender send? (MAIL, RFC 5321 §4.1.1.2)

        :param sender: the reverse-path with its parameters: a :class:`~lmtp_twisted.envelope.Sender`.
        :returns: ``None`` or ``True`` to accept, a ``str`` to accept with that text, a ``Reply`` to say it exactly,
            or an awaitable of one of these.
        :raises lmtp_twisted.errors.DeliveryError: to refuse: ``550 5.7.1`` unless it says otherwise.
        """

    def validateTo(recipient):  # type: ignore[no-untyped-def]  # zope method
        """
        May this recipient have mail? (RCPT, RFC 5321 §4.1.1.3). Called for each RCPT, also where the same one is
        given again.

        :param recipient: the forward-path with its parameters: a :class:`~lmtp_twisted.envelope.Recipient`.
        :returns: as ``validateFrom``.
        :raises lmtp_twisted.errors.DeliveryError: to refuse this recipient alone: ``550 5.1.1`` unless it says
            otherwise.
        """

    def deliver(message):  # type: ignore[no-untyped-def]  # zope method
        """
        Deliver the complete message to each of ``message.recipients`` (RFC 2033 §4.2). Called once, after the final
        dot or the last chunk, never with an empty list of recipients; before the content, where an
        :class:`IStreamingDelivery` wants that. Some that ``validateTo`` has accepted may be missing, where others have
        refused them since.

        An awaitable that is not done within the delivery time-out, or when the connection is lost, is cancelled
        (``Deferred.cancel``); a delivery that commits in a thread looks whether it was cancelled before it commits.

        :param message: an :class:`IReceivedMessage`.
        :returns: a list or tuple with one outcome (or one awaitable of an outcome) for each of ``message.recipients``,
            in order; or an awaitable of such a list. See the outcomes above.
        :raises Exception: which is then the outcome of every recipient.
        """

    def aborted(reason):  # type: ignore[no-untyped-def]  # zope method
        """
        This message will not be delivered: RSET or a new LHLO, a content that was refused, a refused MAIL after
        ``getDelivery``, a lost connection. Release what was reserved. Not called once ``deliver`` has been called.

        :param reason: why, in a few words: a ``str`` for logs.
        :returns: ignored.
        """


class IVerifyingDelivery(ILMTPDelivery):
    """
    A delivery that also answers VRFY. Without this method the answer is ``252``: send mail and see.
    """

    def verifyAddress(recipient):  # type: ignore[no-untyped-def]  # zope method
        """
        Is there such a recipient? (VRFY, RFC 5321 §3.5). Called on a delivery of its own, outside of any transaction;
        ``aborted`` is the next and last call.

        :param recipient: a :class:`~lmtp_twisted.envelope.Recipient`, its domain ``""`` where the client gave none.
        :returns: ``None`` or ``True`` for yes, a ``str`` for yes with that text, a ``Reply`` to say it exactly
            (``252 2.1.5`` does not tell), or an awaitable of one of these.
        :raises lmtp_twisted.errors.DeliveryError: for no: ``550 5.1.1`` unless it says otherwise.
        """


class IContainingDelivery(ILMTPDelivery):
    """
    A delivery that hands recipients to the deliveries of other backends. Without this method what is observed of its
    recipients is said of its own backend.
    """

    def backendFor(recipient):  # type: ignore[no-untyped-def]  # zope method
        """
        Whose is this recipient? Asked at the end, and only where somebody observes: once for each final reply, and for
        each recipient that was refused.

        :param recipient: a :class:`~lmtp_twisted.envelope.Recipient`.
        :returns: the :class:`ILMTPDeliveryFactory` that has taken it, or would have, at once; ``None`` where there is
            none.
        """


class IRecipientDirectory(Interface):
    """Who exists, and where their mail goes. For a :class:`~lmtp_twisted.recipients.Resolver`."""

    def entryOf(address):  # type: ignore[no-untyped-def]  # zope method
        """
        Called for each recipient, at RCPT and VRFY.

        :param address: an :class:`~lmtp_twisted.wire.addresses.Address` in lower case and Unicode's normal form C,
            without the detail of a subaddress, and with our own name as its domain where the client gave none.
        :returns: a :class:`~lmtp_twisted.envelope.DirectoryEntry`; ``None`` where there is no such recipient, which is
            answered ``550 5.1.1``; or an awaitable of one of these.
        :raises Exception: where it cannot tell: ``451 4.3.0``, whatever it is.
        """


class IBearerToken(ICredentials):
    """
    What AUTH XOAUTH2 gives to a checker of the portal: a user and a token in place of a password.
    """

    username = Attribute("``bytes``: who the client says it is.")
    token = Attribute("``bytes``: an OAuth 2.0 bearer token (RFC 6750).")


class IClientCertificate(ICredentials):
    """
    What AUTH EXTERNAL gives to a checker of the portal: the certificate that TLS has verified (RFC 4422 appendix A).
    """

    certificate = Attribute("``bytes``: in DER.")
    username = Attribute('``bytes``: as whom the client wants to act; ``b""`` for whom the certificate names.')


class IStreamingDelivery(ILMTPDelivery):
    """
    A delivery that may read the content while it comes. Where :meth:`streams` says so, ``deliver`` is called before
    the content: at the 354 of DATA, or at the first chunk of BDAT. Nothing is stored then:

    - ``message.chunks()`` yields octets as they arrive, and ends when the content is complete and is not refused. The
      client is held back while more than 256 KiB wait to be read, for as long as the delivery time-out in all; the time
      in which it is the client who is slow does not count.
    - ``message.completed`` fires at the same time.
    - Where the content is refused (its size, a mail loop, bare line ends) or lost (RSET, a chunk that failed, a new
      LHLO, a silent client, a lost connection, a server that stops, a delivery that is too slow), both end in
      :exc:`~lmtp_twisted.errors.ContentLost` instead. Commit nothing before the one or the other has ended well;
      ``aborted`` is not called any more. What is still at work half a minute later is cancelled.
    - Outcomes may be given at any time, and are held back until the content is complete. Where it is refused, every
      recipient gets the refusal, whatever its outcome was. Once all outcomes are given, what is left of the content is
      read away; so a delivery that fails need not read on.
    - After the dot all is as for other deliveries, the time-out too.
    - ``message.headers`` is there once the header block has come; ``size`` when the content is complete; ``open``,
      ``read`` and ``blocks`` never. What cannot be had raises :exc:`~lmtp_twisted.errors.NotStored`.
    - Each message is read once. ``forRecipients`` gives messages that are read each for itself; ask for all that are
      needed at once, and before any is read.

    It must also take a message that is stored: it gets one where it says so, where its part of the message goes
    together with another's that does not stream, and where the first chunk is larger than messages may be. ``chunks``
    and ``completed`` are the same there, so a delivery that uses nothing else need not tell them apart.
    """

    def streams(recipients):  # type: ignore[no-untyped-def]  # zope method
        """
        Shall ``deliver`` be called before the content? Asked at DATA, or at the first chunk of BDAT. A delivery that
        contains others asks them: those without this method do not stream.

        :param recipients: a tuple of the accepted, distinct :class:`~lmtp_twisted.envelope.Recipient`, those of the
            message to come.
        :returns: ``True`` or ``False``, at once.
        """


class IReceivedMessage(Interface):
    """
    A message that has been received: stored once, read by all recipients; or one that is being received, see
    :class:`IStreamingDelivery`. The content is given as received, line ends and all, without the dot-stuffing and
    without trace headers.
    """

    id = Attribute("``str``: the session's id and the number of the transaction; it begins each of its reply ids.")
    session = Attribute("Who sent it: :class:`~lmtp_twisted.session.SessionInfo`.")
    envelope = Attribute("The sender and the recipients: :class:`~lmtp_twisted.envelope.Envelope`.")
    recipients = Attribute(
        "A tuple of the accepted, distinct :class:`~lmtp_twisted.envelope.Recipient` in RCPT order: one outcome each."
    )
    size = Attribute("``int``: octets of the content, line ends counted as received.")
    inMemory = Attribute("``bool``: whether ``open``, ``read`` and ``blocks`` read no file, so cannot block.")
    headers = Attribute(
        "An :class:`email.message.EmailMessage` of the header block (no body), parsed when first asked for."
    )
    completed = Attribute(
        "A new :class:`~twisted.internet.defer.Deferred` each time: it fires with ``None`` once the content is "
        "complete, at once for a stored message, or fails with :exc:`~lmtp_twisted.errors.ContentLost`."
    )
    received = Attribute("``bytes``: the ``Received:`` header line with its CRLF: all that a relay prepends.")

    def trace(recipient=None):  # type: ignore[no-untyped-def]  # zope method
        """
        The header lines to prepend where the message is stored (RFC 5321 §4.4).

        :param recipient: adds ``Delivered-To:`` for this :class:`~lmtp_twisted.envelope.Recipient`.
        :returns: ``Return-Path:`` and ``Received:`` as ``bytes``, each line ending in CRLF.
        """

    def forRecipients(recipients):  # type: ignore[no-untyped-def]  # zope method
        """
        For routers: the same message for some of its recipients. Nothing is copied. Of a message that is streamed, the
        parts are asked for at once and before any is read; then they are what is read, each once.

        :param recipients: some of :attr:`recipients`.
        :returns: an :class:`IReceivedMessage`.
        """

    def chunks():  # type: ignore[no-untyped-def]  # zope method
        """
        The content, for code in the reactor thread: ``async for chunk in message.chunks()``. What lies in a file is
        read by a thread of the server's pool, a block at a time.

        :returns: an asynchronous iterator of non-empty ``bytes``. Of a message that is streamed it is the only one; who
            leaves it before its end reads no more, and holds nobody back.
        """

    def blocks():  # type: ignore[no-untyped-def]  # zope method
        """
        The content, for code in a thread: what lies in a file is read by the caller. Thread safe.

        :returns: an iterator of non-empty ``bytes``.
        """

    def open():  # type: ignore[no-untyped-def]  # zope method
        """
        The content as a file, for code in a thread.

        :returns: a new, independent, read-only, seekable binary file.
        """

    def read():  # type: ignore[no-untyped-def]  # zope method
        """
        The whole content. In the reactor thread only where messages are small or ``inMemory`` is true: it reads a
        file otherwise.

        :returns: ``bytes``.
        """


class IDeliveryBackendPlugin(IPlugin):
    """
    Makes a backend from its description on the command line, ``--backend TYPE:ARGUMENT[,key=value…]``. Anyone can add
    a type: an instance in a module below ``twisted/plugins``, as :mod:`twisted.plugin` describes.
    """

    backendType = Attribute("``str``: the word before the first colon, such as ``maildir``.")
    description = Attribute("``str``: one line for ``--help-backends``.")
    argumentHelp = Attribute("``str``: what the argument is, for ``--help-backends``; empty where there is none.")
    options = Attribute(
        "A mapping of each option's key (a Python identifier) to a line of help. Trailing ``,key=value`` parts whose "
        "key is here are options, all else is the argument."
    )

    def fromDescription(context, argument, **options):  # type: ignore[no-untyped-def]  # zope method
        """
        Called once, before the service starts and before the process becomes a daemon.

        :param context: the surroundings: a :class:`~lmtp_twisted.backends.context.BackendContext`. Relative paths go
            through its ``path``, and where ``is_trial`` holds nothing may be made that stays.
        :param argument: ``str``: what stands after the first colon, without the options.
        :param options: ``str`` values of the options that were given.
        :returns: an :class:`ILMTPDeliveryFactory`.
        :raises ValueError: with one line that says what is wrong, shown to the operator.
        """


class IConnectionPolicy(Interface):
    """Who may talk at all."""

    def validateConnection(session):  # type: ignore[no-untyped-def]  # zope method
        """
        Called before the greeting.

        :param session: the :class:`~lmtp_twisted.session.SessionInfo`; its peer is known, its LHLO name is not.
        :returns: ``None`` or ``True`` to go on, or an awaitable of that.
        :raises lmtp_twisted.errors.DeliveryError: to refuse: a permanent one is answered ``554``, a temporary one
            ``421``, and the connection is closed (RFC 5321 §3.1, §3.8).
        """


class ISessionObserver(Interface):
    """
    What metrics, logs and status pages listen to. Calls are synchronous; an exception is logged and changes nothing
    for the session.
    """

    def sessionStarted(session):  # type: ignore[no-untyped-def]  # zope method
        """A connection was made. Its greeting has not been sent."""

    def sessionSecured(session):  # type: ignore[no-untyped-def]  # zope method
        """TLS is on: ``session.tls`` says how."""

    def sessionAuthenticated(session):  # type: ignore[no-untyped-def]  # zope method
        """The client has authenticated: ``session.user`` says as whom."""

    def authenticationFailed(session, mechanism):  # type: ignore[no-untyped-def]  # zope method
        """
        The client has failed to authenticate.

        :param session: the :class:`~lmtp_twisted.session.SessionInfo`.
        :param mechanism: the name of one that the server has, such as ``PLAIN``.
        """

    def limitReached(session, limit):  # type: ignore[no-untyped-def]  # zope method
        """
        The client has reached a limit.

        :param session: the :class:`~lmtp_twisted.session.SessionInfo`.
        :param limit: which: a :class:`~lmtp_twisted.limits.Limit`. Some of them end the session.
        """

    def senderRefused(session, sender, reply):  # type: ignore[no-untyped-def]  # zope method
        """
        A MAIL command was refused: by the grammar, the settings, or whoever gives deliveries. Out of order it is not
        looked at, and not told.

        :param session: the :class:`~lmtp_twisted.session.SessionInfo`.
        :param sender: the :class:`~lmtp_twisted.envelope.Sender`; ``None`` where the grammar does not take it.
        :param reply: the refusal: a :class:`~lmtp_twisted.wire.replies.Reply`.
        """

    def recipientRefused(session, sender, recipient, reply, backend):  # type: ignore[no-untyped-def]  # zope method
        """
        A RCPT command was refused, as for ``senderRefused``.

        :param session: the :class:`~lmtp_twisted.session.SessionInfo`.
        :param sender: the :class:`~lmtp_twisted.envelope.Sender`.
        :param recipient: the :class:`~lmtp_twisted.envelope.Recipient`; ``None`` where the grammar does not take it.
        :param reply: the refusal: a :class:`~lmtp_twisted.wire.replies.Reply`.
        :param backend: the :class:`ILMTPDeliveryFactory` that refused it, or where it would have gone; ``None`` where
            there is none.
        """

    def transactionEnded(session, envelope, outcomes):  # type: ignore[no-untyped-def]  # zope method
        """
        A transaction whose MAIL was accepted is over.

        :param session: the :class:`~lmtp_twisted.session.SessionInfo`.
        :param envelope: the :class:`~lmtp_twisted.envelope.Envelope`.
        :param outcomes: a tuple of :class:`~lmtp_twisted.envelope.Outcome`, one for each reply after the dot in order;
            empty where the transaction was given up before its content was complete.
        """

    def sessionEnded(session):  # type: ignore[no-untyped-def]  # zope method
        """The connection is gone. The last call for this session."""
