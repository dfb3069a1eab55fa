"""HOST:PORT: what is one, what was meant where it is none, and what is this machine."""

from pathlib import Path

import pytest

from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.net.listening import check_address, check_exposed, is_loopback


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1:50051", "127.0.0.1"),
        ("localhost:0", "localhost"),
        ("[::1]:0", "[::1]"),
        ("[fe80::1%eth0]:65535", "[fe80::1%eth0]"),
    ],
)
def test_addresses(address: str, host: str) -> None:
    assert check_address(address) == host


@pytest.mark.parametrize(
    ("address", "said"),
    [
        # IPv6 without brackets, which is one with and without the last part
        ("::1:0", r"expected IPv6 in brackets, \[::1\]:0"),
        ("2001:db8::5:50051", r"expected IPv6 in brackets, \[2001:db8::5\]:50051"),
        ("fe80::1%eth0:50051", r"brackets, \[fe80::1%eth0\]:50051"),
        # without a port
        ("::1", r"expected IPv6 in brackets and a port, \[::1\]:50051"),
        ("[::1]", r"expected IPv6 in brackets and a port, \[::1\]:50051"),
        # a URL, a target of gRPC, half a bracket
        ("http://127.0.0.1:50051", "expected HOST:PORT alone"),
        ("ipv4:127.0.0.1:50051", "expected HOST:PORT alone"),
        ("[::1:0", r"expected IPv6 in brackets, \[::1\]:0"),
        # the rest
        ("localhost", "expected HOST:PORT with a port"),
        (":50051", "expected HOST:PORT with a port"),
        ("[::1]:x", "expected HOST:PORT with a port"),
        ("localhost:65536", "0 to 65535"),
        ("", "expected HOST:PORT"),
    ],
)
def test_what_is_no_address(address: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        check_address(address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("car.localhost", True),
        ("[::1]", True),
        ("::1", True),
        ("[::ffff:127.0.0.1]", True),
        ("0.0.0.0", True),  # a client reaches this machine by it
        ("10.0.0.1", False),
        ("[2001:db8::1]", False),
        ("localhost.example", False),
        ("fleet", False),
        ("", False),
    ],
)
def test_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) == here


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:1", "[::1]:0", "car.localhost:1"])
def test_what_only_this_machine_reaches_needs_no_tls(listen: str) -> None:
    check_exposed(listen, None, insecure=False)


@pytest.mark.parametrize(
    "listen",
    [
        *("0.0.0.0:0", "0.0.0.0.:0", "[::]:0", "[::ffff:0.0.0.0]:0"),  # any address
        *("10.0.0.1:0", "fleet.example:1"),
    ],
)
def test_what_others_reach_needs_tls_or_a_word(listen: str) -> None:
    with pytest.raises(InvalidInput, match=r"other machines reach.*Add --tls DIR, or --insecure"):
        check_exposed(listen, None, insecure=False)
    check_exposed(listen, Path("tls"), insecure=False)
    check_exposed(listen, None, insecure=True)
