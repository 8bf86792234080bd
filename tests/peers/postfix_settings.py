"""The settings of the private Postfix, with ``{directory}`` and ``{port}`` for where it lives and where it listens."""

from __future__ import annotations

#: main.cf.
MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mta.example.net
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
local_header_rewrite_clients =
notify_classes =
smtpd_peername_lookup = no
# Clients may say whose mail they pass on, as a content filter would.
smtpd_authorized_xforward_hosts = 127.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all
virtual_transport = error:goes nowhere
default_transport = error:goes nowhere
transport_maps = socketmap:unix:{directory}/routes:transport
message_size_limit = 100000000
default_destination_recipient_limit = 50
lmtp_connection_cache_on_demand = no
lmtp_connection_cache_time_limit = 60s
connection_cache_ttl_limit = 60s
# The deferred queue is flat, so that one look shows what is in it.
hash_queue_names = defer
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup   unix n - n 60    1 pickup
cleanup  unix n - n -     0 cleanup
qmgr     unix n - n 300   1 qmgr
rewrite  unix - - n -     - trivial-rewrite
bounce   unix - - n -     0 bounce
defer    unix - - n -     0 bounce
trace    unix - - n -     0 bounce
verify   unix - - n -     1 verify
flush    unix n - n 1000? 0 flush
proxymap unix - - n -     - proxymap
showq    unix n - n -     - showq
error    unix - - n -     - error
retry    unix - - n -     - error
discard  unix - - n -     - discard
lmtp     unix - - n -     - lmtp
kept     unix - - n -     - lmtp -o lmtp_connection_cache_destinations=static:all
secure   unix - - n -     - lmtp -o lmtp_tls_security_level=encrypt
forward  unix - - n -     - lmtp -o lmtp_send_xforward_command=yes
keptforward unix - - n -  - lmtp
    -o lmtp_send_xforward_command=yes -o lmtp_connection_cache_destinations=static:all
tlsmgr   unix - - n 1000? 1 tlsmgr
anvil    unix - - n -     1 anvil
scache   unix - - n -     1 scache
postlog  unix-dgram n - n - 1 postlogd
"""

#: By service: the mechanism and the password of an LMTP client that logs in.
_LOGINS = {
    "plain": ("plain", "secret"),
    "login": ("login", "secret"),
    "cram": ("cram-md5", "secret"),
    "wrong": ("plain", "wrong"),
}
# By default Postfix sends no password that could be read on the way.
_LOGIN = """\
{name} unix - - n - - lmtp
    -o lmtp_sasl_auth_enable=yes -o lmtp_sasl_security_options=noanonymous -o lmtp_sasl_mechanism_filter={mechanism}
    -o lmtp_sasl_password_maps=static:postfix:{password} -o lmtp_tls_security_level={security}
    -o lmtp_send_xforward_command=yes
"""
_CERTIFIED = """\
{name} unix - - n - - lmtp
    -o lmtp_sasl_auth_enable=yes -o lmtp_sasl_security_options=noanonymous -o lmtp_sasl_mechanism_filter={mechanisms}
    -o lmtp_sasl_password_maps=static:postfix:secret -o lmtp_tls_security_level=encrypt
    -o lmtp_tls_cert_file={{directory}}/client.pem
"""


def master() -> str:
    """master.cf."""
    logins = [
        _LOGIN.format(name=prefix + name, mechanism=mechanism, password=password, security=security)
        for name, (mechanism, password) in _LOGINS.items()
        for prefix, security in (("", "none"), ("secure", "encrypt"))
    ]
    logins += [
        _CERTIFIED.format(name=name, mechanisms=mechanisms)
        for name, mechanisms in (("certified", "!external,static:all"), ("unfiltered", ""))
    ]
    return _MASTER + "".join(logins)
