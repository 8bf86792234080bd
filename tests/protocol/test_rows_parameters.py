"""The parameters of MAIL and RCPT (RFC 1870, 3030, 3461, 6152, 6531, 6710, 8689)."""

from __future__ import annotations

import pytest
from dialogue import codes, greeted, with_sender
from envelopes import mail, rcpt, recipient_of, sender_of

from lmtp_twisted.testing import ScriptedDeliveries
from lmtp_twisted.wire.parameters import Body, Notify, OriginalRecipient, Ret


def test_a_declared_size_up_to_the_limit_is_accepted_and_handed_on() -> None:
    """RFC 1870 §4."""
    assert mail("<a@x> SIZE=1000", size_limit=1000) == "250 2.1.0"
    assert sender_of("<a@x> SIZE=1000").parameters.size == 1000


def test_a_declared_size_over_the_limit_is_552_at_mail() -> None:
    """RFC 1870 §6.1."""
    assert mail("<a@x> SIZE=1001", size_limit=1000) == "552 5.3.4"


def test_a_declared_size_of_20_digits_is_parsed() -> None:
    """RFC 1870 §3."""
    assert mail("<a@x> SIZE=99999999999999999999") == "552 5.3.4"
    assert mail("<a@x> SIZE=99999999999999999999", size_limit=0) == "250 2.1.0"
    assert mail("<a@x> SIZE=00000000000000000001") == "250 2.1.0"


@pytest.mark.parametrize(
    "size", ["SIZE=abc", "SIZE=", "SIZE=-1", "SIZE=+1", "SIZE=1.5", "SIZE", f"SIZE={'9' * 21}", "SIZE=1x"]
)
def test_a_malformed_size_is_501(size: str) -> None:
    """RFC 1870 §3."""
    assert mail(f"<a@x> {size}") == "501 5.5.4"


def test_a_refused_size_asks_no_backend() -> None:
    """RFC 1870 §6.1."""
    deliveries = ScriptedDeliveries()
    client = greeted(deliveries, size_limit=10)
    client.say("MAIL FROM:<a@x> SIZE=11")
    assert deliveries.calls == []
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]


@pytest.mark.parametrize("body", ["7BIT", "8BITMIME", "BINARYMIME", "8bitmime", "BinaryMime"])
def test_the_kinds_of_body_are_accepted(body: str) -> None:
    """RFC 6152 §2, RFC 3030 §3."""
    assert mail(f"<a@x> BODY={body}") == "250 2.1.0"
    assert sender_of(f"<a@x> BODY={body}").parameters.body is Body(body.upper())


@pytest.mark.parametrize("body", ["BODY=9BIT", "BODY=", "BODY", "BODY=8BITMIMEX"])
def test_another_kind_of_body_is_501(body: str) -> None:
    """RFC 6152 §2."""
    assert mail(f"<a@x> {body}") == "501 5.5.4"


def test_binarymime_and_data_do_not_go_together() -> None:
    """RFC 3030 §3."""
    client = greeted()
    client.say("MAIL FROM:<a@x> BODY=BINARYMIME", "RCPT TO:<b@x>")
    assert codes(client.say("DATA")) == ["503 5.5.1"]
    assert codes(client.send(b"BDAT 3 LAST\r\na\nb")) == ["250 2.0.0"]


def test_smtputf8_is_accepted_without_a_value() -> None:
    """RFC 6531 §3.4."""
    assert mail("<a@x> SMTPUTF8") == "250 2.1.0"
    assert mail("<a@x> SMTPUTF8=x") == "501 5.5.4"
    assert mail("<a@x> SMTPUTF8=") == "501 5.5.4"
    assert sender_of("<a@x> SMTPUTF8").parameters.smtputf8


@pytest.mark.parametrize("path", ["<ü@x>", "<a@bücher.example>", '<"ü b"@x>', "<用户@例子.广告>"])
def test_a_utf_8_address_needs_smtputf8(path: str) -> None:
    """RFC 6531 §3.5."""
    assert mail(path) == "550 5.6.7"
    assert rcpt(path) == "553 5.6.7"
    assert mail(f"{path} SMTPUTF8") == "250 2.1.0"
    assert rcpt(path, sender="<> SMTPUTF8") == "250 2.1.5"


@pytest.mark.parametrize("octets", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
def test_what_is_not_utf_8_is_501(octets: bytes) -> None:
    """RFC 6531 §3.3."""
    client = greeted()
    assert codes(client.send(b"MAIL FROM:<a" + octets + b"@x> SMTPUTF8\r\n")) == ["501 5.1.7"]
    assert codes(client.send(b"MAIL FROM:<a@x> SMTPUTF8\r\nRCPT TO:<a" + octets + b"@x>\r\n")) == [
        "250 2.1.0",
        "501 5.1.3",
    ]


def test_replies_name_a_utf_8_recipient_in_ascii() -> None:
    """RFC 6533 §3."""
    client = greeted()
    client.say("MAIL FROM:<ü@x> SMTPUTF8", "RCPT TO:<üser@x>")
    (reply,) = client.content()
    assert r"<\x{FC}ser@x>" in reply


@pytest.mark.parametrize("ret", ["FULL", "HDRS", "full", "Hdrs"])
def test_ret_is_handed_on(ret: str) -> None:
    """RFC 3461 §4.3."""
    assert sender_of(f"<a@x> RET={ret}").parameters.ret is Ret(ret.upper())


@pytest.mark.parametrize("ret", ["RET=X", "RET=", "RET", "RET=FULL,HDRS"])
def test_a_malformed_ret_is_501(ret: str) -> None:
    """RFC 3461 §4.3."""
    assert mail(f"<a@x> {ret}") == "501 5.5.4"


def test_envid_is_decoded_and_handed_on_with_its_case() -> None:
    """RFC 3461 §4.4."""
    assert sender_of("<a@x> ENVID=QQ314159").parameters.envid == "QQ314159"
    assert sender_of("<a@x> ENVID=a+2Bb+3Dc").parameters.envid == "a+b=c"
    assert sender_of(f"<a@x> ENVID={'x' * 100}").parameters.envid == "x" * 100


@pytest.mark.parametrize("envid", ["+zz", "+0D+0A", "+2", "+2b", "a=b", "x" * 101, "", "+00", "ü"])
def test_a_malformed_envid_is_501(envid: str) -> None:
    """RFC 3461 §4, §4.4."""
    assert mail(f"<a@x> ENVID={envid}") == "501 5.5.4"


@pytest.mark.parametrize(
    ("notify", "wanted"),
    [
        ("NEVER", Notify.NEVER),
        ("SUCCESS", Notify.SUCCESS),
        ("success,FAILURE", Notify.SUCCESS | Notify.FAILURE),
        ("FAILURE,DELAY,SUCCESS", Notify.SUCCESS | Notify.FAILURE | Notify.DELAY),
    ],
)
def test_notify_is_handed_on(notify: str, wanted: Notify) -> None:
    """RFC 3461 §4.1."""
    assert recipient_of(f"<a@x> NOTIFY={notify}").parameters.notify == wanted


@pytest.mark.parametrize("notify", ["NEVER,SUCCESS", "SUCCESS,NEVER", "X", "", "SUCCESS,", ",SUCCESS"])
def test_a_malformed_notify_is_501(notify: str) -> None:
    """RFC 3461 §4.1."""
    assert rcpt(f"<a@x> NOTIFY={notify}") == "501 5.5.4"


@pytest.mark.parametrize(
    ("orcpt", "original"),
    [
        ("rfc822;Bob@example.org", OriginalRecipient("rfc822", "Bob@example.org")),
        ("RFC822;a+2Bb@x", OriginalRecipient("RFC822", "a+b@x")),
        ("rfc822;root", OriginalRecipient("rfc822", "root")),
        (r"utf-8;\x{FC}ser@x", OriginalRecipient("utf-8", "üser@x")),
        ("utf-8;üser@x", OriginalRecipient("utf-8", "üser@x")),
        ("x400;/C=de/", None),
    ],
)
def test_orcpt_is_decoded_and_handed_on_with_its_case(orcpt: str, original: OriginalRecipient | None) -> None:
    """RFC 3461 §4.2, RFC 6533 §3."""
    if original is None:
        assert rcpt(f"<a@x> ORCPT={orcpt}") == "501 5.5.4"  # "=" is no xtext
    else:
        assert recipient_of(f"<a@x> ORCPT={orcpt}", "<> SMTPUTF8").original == original


@pytest.mark.parametrize("orcpt", ["abc", "", "rfc822;+zz", "rfc822;a+0D+0Ab", ";a@x", "rf(c;a"])
def test_a_malformed_orcpt_is_501(orcpt: str) -> None:
    """RFC 3461 §4.2."""
    assert rcpt(f"<a@x> ORCPT={orcpt}") == "501 5.5.4"


def test_an_orcpt_of_500_octets_is_accepted() -> None:
    """RFC 3461 §4.2."""
    assert rcpt("<a@x> ORCPT=rfc822;" + "x" * 493) == "250 2.1.5"
    assert rcpt("<a@x> ORCPT=rfc822;" + "x" * 494) == "501 5.5.4"


def test_the_longest_rcpt_of_all_is_accepted() -> None:
    """RFC 5321 §4.5.3.1.4, RFC 3461 §5.4."""
    path = f"<{'u' * 242}@example.org>"
    assert rcpt(f"{path} NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;{'x' * 493}") == "250 2.1.5"


def test_the_longest_mail_of_all_is_accepted() -> None:
    """RFC 5321 §4.5.3.1.4."""
    path = f"<{'u' * 242}@example.org>"
    parameters = f"SIZE=00000000000000000001 BODY=BINARYMIME SMTPUTF8 RET=FULL ENVID={'x' * 100} MT-PRIORITY=-9"
    assert mail(f"{path} {parameters}") == "250 2.1.0"


@pytest.mark.parametrize("enabled", [(), ("DSN",)])
def test_the_dsn_parameters_are_taken_whether_dsn_is_announced_or_not(enabled: tuple[str, ...]) -> None:
    """RFC 3461 §5.2.1: to refuse them would bounce real mail."""
    assert mail("<a@x> RET=HDRS ENVID=x", enabled=enabled) == "250 2.1.0"
    assert rcpt("<a@x> NOTIFY=NEVER ORCPT=rfc822;a@x", enabled=enabled) == "250 2.1.5"


def test_parameters_are_blind_to_the_case_of_their_keywords() -> None:
    """RFC 5321 §2.4."""
    assert mail("<a@x> size=1 Body=7bit smtputf8 rEt=full envid=X") == "250 2.1.0"
    assert rcpt("<a@x> notify=never orcpt=rfc822;A@x") == "250 2.1.5"


def test_what_a_recipient_said_first_stands() -> None:
    """RFC 2033 §4.2: given twice it is delivered once."""
    deliveries = ScriptedDeliveries()
    client = with_sender(deliveries)
    client.say("RCPT TO:<a@x> NOTIFY=NEVER", "RCPT TO:<a@x> NOTIFY=DELAY")
    assert len(client.content()) == 2
    (recipient,) = deliveries.messages[0].recipients
    assert recipient.parameters.notify is Notify.NEVER


@pytest.mark.parametrize("priority", range(-9, 10))
def test_a_priority_from_minus_9_to_9_is_handed_on(priority: int) -> None:
    """RFC 6710 §4."""
    assert sender_of(f"<a@x> MT-PRIORITY={priority}").parameters.mt_priority == priority


@pytest.mark.parametrize("priority", ["+1", "-0", "01", "10", "-10", "", "x", "1.0", "--1", "00"])
def test_a_malformed_priority_is_501(priority: str) -> None:
    """RFC 6710 §4.1."""
    assert mail(f"<a@x> MT-PRIORITY={priority}") == "501 5.5.4"


def test_requiretls_without_tls_is_555() -> None:
    """RFC 8689 §2: it is not announced."""
    assert mail("<a@x> REQUIRETLS") == "555 5.5.4"
    assert mail("<a@x> REQUIRETLS=yes") == "501 5.5.4"


@pytest.mark.parametrize("parameter", ["FOO", "FOO=bar", "X-Y=1", "NOTIFY=NEVER", "ORCPT=rfc822;a"])
def test_an_unknown_parameter_of_mail_is_555(parameter: str) -> None:
    """RFC 5321 §4.1.1.11."""
    assert mail(f"<a@x> {parameter}") == "555 5.5.4"


@pytest.mark.parametrize("parameter", ["FOO", "FOO=bar", "SIZE=1", "BODY=7BIT", "RET=FULL", "SMTPUTF8"])
def test_an_unknown_parameter_of_rcpt_is_555(parameter: str) -> None:
    """RFC 5321 §4.1.1.11."""
    assert rcpt(f"<a@x> {parameter}") == "555 5.5.4"


@pytest.mark.parametrize("twice", ["SIZE=1 SIZE=1", "SIZE=1 size=2", "SMTPUTF8 SMTPUTF8", "RET=FULL RET=HDRS"])
def test_a_parameter_of_mail_given_twice_is_501(twice: str) -> None:
    """RFC 5321 §4.1.1.11."""
    assert mail(f"<a@x> {twice}") == "501 5.5.4"


@pytest.mark.parametrize("twice", ["NOTIFY=NEVER NOTIFY=NEVER", "ORCPT=rfc822;a ORCPT=rfc822;a"])
def test_a_parameter_of_rcpt_given_twice_is_501(twice: str) -> None:
    """RFC 5321 §4.1.1.11."""
    assert rcpt(f"<a@x> {twice}") == "501 5.5.4"


@pytest.mark.parametrize("text", ["SIZE", "=1", "-X=1", "FOO=a=b", "FO\x00", "<b@x>"])
def test_a_malformed_parameter_is_501(text: str) -> None:
    """RFC 5321 §4.1.2."""
    assert mail(f"<a@x> {text}") == "501 5.5.4"


def test_a_parameter_needs_a_blank_before_it() -> None:
    """RFC 5321 §4.1.1.2."""
    assert mail("<a@x>SIZE=1") == "501 5.5.4"
    assert rcpt("<a@x>NOTIFY=NEVER") == "501 5.5.4"


def test_blanks_between_and_behind_parameters_are_tolerated() -> None:
    """RFC 5321 §4.1.1."""
    assert mail("<a@x>   SIZE=1    BODY=7BIT  ") == "250 2.1.0"
