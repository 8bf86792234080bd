"""What ``twistd`` finds of lmtp-twisted: the daemon, the backends of ``--backend``, the checkers of ``--auth``."""

from twisted.application.service import ServiceMaker

from lmtp_twisted.backends.plugin import BackendPlugin
from lmtp_twisted.extensions.checker_plugin import CheckerPlugin
from lmtp_twisted.interfaces import IBearerToken, IClientCertificate

lmtp_service = ServiceMaker("lmtp", "lmtp_twisted.daemon", "An LMTP (RFC 2033) delivery server.", "lmtp")

maildir_backend = BackendPlugin(
    "maildir",
    "Stores each message in the recipient's Maildir, on disk before it is answered. The directory may hold {local} and "
    "{domain}; without any of them /{domain}/{local} is added.",
    "lmtp_twisted.backends.maildir.from_description",
    "DIRECTORY",
    {
        "create": "what is made where it is missing: mailboxes (default); yes: folders, too; no: nothing, and a "
        "recipient without a mailbox does not exist",
        "detail": "ignore (default): user+detail is user; folder: it goes into the folder 'detail' where there is one",
        "separator": "what begins a detail: + (default), or other characters, or nothing",
        "quota": "what a mailbox may hold: octets, as in 1G, or octets and messages, as in 1G:10000",
        "overquota": "mail for a full mailbox is tried again: defer (default); or goes back to its sender: bounce",
        "case": "fold (default): local parts in lower case; keep: as given",
        "newlines": "of the files: lf (default) or crlf; BINARYMIME messages are always kept as they are",
        "fsync": "yes (default); each: file by file; or no: a power loss loses mail that was answered for",
    },
)
http_backend = BackendPlugin(
    "http",
    "Posts each message to a web application, which says what becomes of it.",
    "lmtp_twisted.backends.http.from_description",
    "URL",
    {
        "per": "a request is for one recipient (default), or for a message: then the answer has a result for each",
        "timeout": "seconds that a request may take (default 30)",
        "secret_file": "a file with a secret of at least 16 octets, which signs the requests",
        "ca": "a file of certificates in PEM that are trusted in the place of the system's",
        "connections": "how many requests may be under way (default 20)",
    },
)
first_backend = BackendPlugin(
    "first",
    "One backend after the other: where one is in trouble, the next gets the mail.",
    "lmtp_twisted.backends.several.first_from_description",
    "BACKEND,then=BACKEND[,then=BACKEND...]",
)
all_backend = BackendPlugin(
    "all",
    "Several backends, all of which get the mail.",
    "lmtp_twisted.backends.several.all_from_description",
    "BACKEND,and=BACKEND[,and=BACKEND...]",
)
amqp_backend = BackendPlugin(
    "amqp",
    "Publishes each message to RabbitMQ, once for each recipient, and answers when it is confirmed. Several hosts with "
    "a comma between them are nodes of one cluster. Needs the extra 'amqp'.",
    "lmtp_twisted.backends.amqp.from_description",
    "amqp://USER@HOST:PORT,HOST:PORT/VHOST, or amqps://...",
    {
        "exchange": "its name; none: the default exchange, whose routing keys are names of queues",
        "queue": "a durable quorum queue that is made and bound for all keys where it is missing, with the exchange, "
        "of the type topic; none: nothing is made (default)",
        "routing_key": "may hold {local} and {domain} (default {domain}.{local}, without an exchange the queue)",
        "size_limit": "octets of a message at most (default 16M, as much as RabbitMQ 4 takes)",
        "timeout": "seconds that a confirm may take (default 30)",
        "heartbeat": "seconds of silence after which a node is taken to be gone (default 30); 0: never",
        "password_file": "a file whose first line is the password",
        "ca": "for amqps: a file of authorities to trust, instead of the system's",
    },
)
relay_backend = BackendPlugin(
    "lmtp",
    "Hands each message to another LMTP server, or to that one of several to which the recipient belongs.",
    "lmtp_twisted.backends.relay.from_description",
    "ENDPOINT[,ENDPOINT...]",
    {
        "connections": "to each server, at the most (default 10)",
        "timeout": "seconds for each wait for a server (default: those of RFC 5321, 2 to 10 minutes)",
        "connect_timeout": "seconds for a connection (default 30)",
        "retry": "seconds for which a server that is away is left alone, at the most (default 60)",
        "tls": "auto: STARTTLS where others than this machine offer it (default); no; starttls: or nothing; "
        "tls: from the first octet",
        "verify": "the server's certificate: yes (default) or no",
        "ca": "a file of authorities to trust in place of the system's, in PEM",
        "server_name": "the name that the certificate is for (default: the host)",
        "certificate": "a file with our own certificate and its key, in PEM",
        "user": "to log in as, with one of the next two; alone: by certificate",
        "password_file": "a file whose first line is the password",
        "token_file": "a file whose first line is a bearer token",
        "plaintext": "yes: say a password where others may listen; no (default)",
        "bare_newlines": "bare CR and LF: normalise (default), reject or keep",
        "chunking": "BDAT where it is offered: yes (default) or no",
        "xforward": "tell servers that take it who the client is: yes (default) or no",
        "stream": "a message for one server goes out while it comes: yes (default) or no",
        "separator": "what begins a detail, which belongs to the same server: + (default), or others, or nothing",
        "case": "fold (default): Bob is bob; keep: they may belong to different servers",
    },
)
faults_backend = BackendPlugin(
    "faults",
    "Goes wrong on purpose, to test what sends mail: refuse, defer, drop, hang, delay or stagger, at mail, rcpt or "
    "dot, for recipients that match a pattern, every n-th of them. What is not at fault goes to another backend.",
    "lmtp_twisted.backends.faults.from_description",
    "FAULT[,key=value...][,then=BACKEND]",
)
memory_backend = BackendPlugin(
    "memory",
    "Keeps the latest messages in memory, for tests.",
    "lmtp_twisted.backends.memory.from_description",
    "",
    {"keep": "how many messages (default 100)"},
)
null_backend = BackendPlugin(
    "null", "Accepts every message and forgets it.", "lmtp_twisted.backends.null.from_description"
)
pipe_backend = BackendPlugin(
    "pipe",
    "Gives each message to a program, once for each recipient, and answers by its exit status (sysexits.h). There is "
    "no shell. An argument may be {recipient}, {sender}, {user}, {extension}, {domain} or another placeholder; "
    "environment variables say the same: RECIPIENT, SENDER, USER and so on.",
    "lmtp_twisted.backends.pipe.from_description",
    "COMMAND ARGUMENT...",
    {
        "user": "USER or USER:GROUP as whom it runs; only root can give one",
        "directory": "where it runs (default: where the server does)",
        "timeout": "seconds that it may run (default 300)",
        "processes": "how many run at a time (default 20)",
        "queue": "how many may wait for that before mail is put off (default 200)",
        "separator": "what begins an extension: + (default), or other characters, or nothing",
        "case": "fold (default): users in lower case; keep: as given",
        "newlines": "of the message: lf (default) or crlf; BINARYMIME messages are always given as they are",
        "from_line": "yes: the message begins with a From line, as in an mbox; no (default)",
        "delivered_to": "yes: it has a Delivered-To line; no (default)",
    },
)
python_backend = BackendPlugin(
    "python",
    "Calls your code: a function of a message and a recipient, or a delivery factory.",
    "lmtp_twisted.backends.python.from_description",
    "PACKAGE.MODULE:ATTRIBUTE",
    {"threads": "yes: the function blocks, so it is called in threads; no (default)"},
)

tokens_checker = CheckerPlugin(
    "tokens",
    "A file of bearer tokens.",
    "Checks the bearer token that a client gives with AUTH XOAUTH2. Each line of the file is 'user:token'.",
    (IBearerToken,),
    "lmtp_twisted.daemon.checkers.TokenFile",
)
certificate_checker = CheckerPlugin(
    "certificate",
    "A file of names, or nothing for all names.",
    "Takes TLS clients at the names in their certificates, with AUTH EXTERNAL: addresses of mail, hosts,\n"
    "and the common name. TLS has verified the certificate by then (--tls-client-ca).",
    (IClientCertificate,),
    "lmtp_twisted.daemon.checkers.CertificateNames",
)
