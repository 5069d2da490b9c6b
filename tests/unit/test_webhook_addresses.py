"""Which addresses a webhook may go to: never one inside our network because a partner's name says so."""

from ipaddress import ip_address

import pytest

from services.shared.record_systems.guarded_http import PrivateAddressError, check_url, is_public, judge


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "255.255.255.255",
        "0.0.0.0",  # noqa: S104 - it is what is refused
        "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1",
        "2001:db8::1",
        "::ffff:10.0.0.1",  # IPv4 inside IPv6, in each of its forms
        "::ffff:127.0.0.1",
        "::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:c000:201:0:0:f5ff:fffe",
    ],
)  # fmt: skip
def test_an_address_inside_a_network_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "51.140.1.1", "2a00:1450:4009::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(PrivateAddressError):
        judge([ip_address("8.8.8.8"), ip_address("10.0.0.1")], scheme="https", allow_private=False)


def test_without_tls_only_a_private_network_is_reached_even_where_allowed() -> None:
    private, public = ip_address("10.0.0.1"), ip_address("8.8.8.8")
    assert judge([private], scheme="http", allow_private=True) == [private]
    assert judge([private], scheme="https", allow_private=True) == [private]
    assert judge([public], scheme="https", allow_private=True) == [public]
    with pytest.raises(PrivateAddressError, match="only https"):
        judge([public], scheme="http", allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://case.example.gov.uk/hook", "ftp://case.example.gov.uk/", "case.example.gov.uk/hook", "https://", "file:///etc/passwd",
        "https://user:password@case.example.gov.uk/", "https://case.example.gov.uk/?a=b", "https://case.example.gov.uk/#a",
        "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "https://10.1.2.3:8443/hook",
    ],
)  # fmt: skip
def test_an_address_that_can_be_judged_at_the_start_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match=r"url|address"):
        check_url(url, allow_private=False)


def test_an_allowed_address_is_taken() -> None:
    assert check_url("https://case.example.gov.uk/hook", allow_private=False).host == "case.example.gov.uk"
    assert check_url("http://127.0.0.1:8300/webhooks/332", allow_private=True).port == 8300
    with pytest.raises(ValueError, match="only https"):
        check_url("http://8.8.8.8/", allow_private=True)
