"""What is announced, and what can be switched off (RFC 2033 §5, RFC 5321 §4.1.1.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dialogue import HOSTNAME, Client, codes, connected, greeted, server, with_recipients, with_sender

ALWAYS = ["PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME"]


def announced(**settings: object) -> dict[str, str]:
    """The capabilities by keyword, with their arguments."""
    lines = connected(**settings).say("LHLO c")
    assert lines[0][4:].split()[0] == HOSTNAME
    return {word: rest for word, _, rest in (line[4:].partition(" ") for line in lines[1:])}


def test_these_are_always_announced() -> None:
    """RFC 2033 §5 and the RFC of each."""
    capabilities = announced(size_limit=12345, max_recipients=77)
    assert capabilities == dict.fromkeys(ALWAYS, "") | {"SIZE": "12345", "LIMITS": "RCPTMAX=77"}


def test_no_size_limit_is_announced_as_zero() -> None:
    """RFC 1870 §4."""
    assert announced(size_limit=0)["SIZE"] == "0"


@pytest.mark.parametrize("name", ["DSN", "MT-PRIORITY"])
def test_these_are_announced_by_option_alone(name: str) -> None:
    """RFC 3461 §5.2: who announces DSN takes over the duty to report success; RFC 6710 §4."""
    assert name not in announced()
    assert name in announced(enabled=[name])
    assert name in announced(enabled=name.lower())


@pytest.mark.parametrize("name", ["STARTTLS", "AUTH", "XCLIENT", "XFORWARD", "REQUIRETLS", "VRFY", "EXPN", "HELP"])
def test_these_are_not_announced(name: str) -> None:
    """Nothing is announced that is not there: no TLS, no portal, no trusted peer."""
    assert name not in announced()


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("8BITMIME", {"8BITMIME", "SMTPUTF8"}),
        ("SMTPUTF8", {"SMTPUTF8"}),
        ("CHUNKING", {"CHUNKING", "BINARYMIME"}),
        ("BINARYMIME", {"BINARYMIME"}),
        ("SIZE", {"SIZE"}),
        ("LIMITS", {"LIMITS"}),
        ("chunking", {"CHUNKING", "BINARYMIME"}),
    ],
)
def test_a_capability_can_be_switched_off_with_what_rests_on_it(name: str, gone: set[str]) -> None:
    """RFC 6531 §3.1 needs 8BITMIME, RFC 3030 §3 needs CHUNKING."""
    assert announced().keys() - announced(disabled=[name]).keys() == gone
    assert announced().keys() - announced(disabled=name).keys() == gone


@pytest.mark.parametrize("name", ["DSN", "MT-PRIORITY"])
def test_what_is_switched_off_is_not_announced_even_where_it_is_switched_on(name: str) -> None:
    """Off wins."""
    assert name not in announced(enabled=[name], disabled=[name])


@pytest.mark.parametrize(
    "name",
    ["PIPELINING", "ENHANCEDSTATUSCODES", "LHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "NONSENSE", ""],
)
def test_these_cannot_be_switched_off(name: str) -> None:
    """RFC 2033 §5 asks for the two, RFC 5321 §4.5.1 for the commands."""
    with pytest.raises(ValueError, match="disabled"):
        connected(disabled=[name])


@pytest.mark.parametrize(
    ("disabled", "parameter"),
    [
        ("SIZE", "SIZE=1"),
        ("SMTPUTF8", "SMTPUTF8"),
        ("8BITMIME", "SMTPUTF8"),
        ("8BITMIME", "BODY=8BITMIME"),
        ("BINARYMIME", "BODY=BINARYMIME"),
        ("CHUNKING", "BODY=BINARYMIME"),
        ("DSN", "RET=FULL"),
        ("DSN", "ENVID=x"),
        ("MT-PRIORITY", "MT-PRIORITY=1"),
    ],
)
def test_a_parameter_of_mail_goes_with_its_capability(disabled: str, parameter: str) -> None:
    """RFC 5321 §4.1.1.11."""
    client = greeted(disabled=[disabled])
    assert codes(client.say(f"MAIL FROM:<a@x> {parameter}")) == ["555 5.5.4"]
    assert codes(client.say("MAIL FROM:<a@x>")) == ["250 2.1.0"]
    assert codes(greeted().say(f"MAIL FROM:<a@x> {parameter}")) == ["250 2.1.0"]


@pytest.mark.parametrize("parameter", ["NOTIFY=NEVER", "ORCPT=rfc822;a@x"])
def test_a_parameter_of_rcpt_goes_with_its_capability(parameter: str) -> None:
    """RFC 5321 §4.1.1.11."""
    client = with_sender(disabled=["DSN"])
    assert codes(client.say(f"RCPT TO:<a@x> {parameter}")) == ["555 5.5.4"]
    assert codes(client.say("RCPT TO:<a@x>")) == ["250 2.1.5"]


@pytest.mark.parametrize("line", ["VRFY a", "EXPN a", "HELP", "VRFY", "vrfy a"])
@pytest.mark.parametrize("stage", [connected, greeted, with_recipients])
def test_a_command_that_is_switched_off_is_502(line: str, stage: Callable[..., Client]) -> None:
    """RFC 5321 §4.2.4."""
    client = stage(disabled=["VRFY", "EXPN", "HELP"])
    assert codes(client.say(line)) == ["502 5.5.1"]


@pytest.mark.parametrize("last", [b"", b" LAST"])
@pytest.mark.parametrize("stage", [connected, greeted, with_sender, with_recipients])
def test_bdat_that_is_switched_off_is_read_away_and_502(stage: Callable[..., Client], last: bytes) -> None:
    """RFC 3030 §2: its octets come all the same, and none of them is a command."""
    client = stage(disabled=["CHUNKING"])
    assert codes(client.send(b"BDAT 6" + last + b"\r\nQUIT\r\nNOOP\r\n")) == ["502 5.5.1", "250 2.0.0"]
    if stage is with_recipients:
        assert codes(client.content()) == ["250 2.0.0"]
    if stage is with_sender:
        assert codes(client.say("RCPT TO:<a@x>")) == ["250 2.1.5"]


def test_the_keyword_body_goes_with_the_last_capability_that_has_it() -> None:
    """RFC 6152 §2, RFC 3030 §3."""
    client = Client(server(disabled={"8BITMIME"}))
    client.say("LHLO c")
    assert codes(client.say("MAIL FROM:<a@x> BODY=7BIT")) == ["250 2.1.0"]
    client = Client(server(disabled={"8BITMIME", "BINARYMIME"}))
    client.say("LHLO c")
    assert codes(client.say("MAIL FROM:<a@x> BODY=7BIT")) == ["555 5.5.4"]
