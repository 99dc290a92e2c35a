from __future__ import annotations

import pytest

from serval_serving.fetch.safety.address_policy import AddressPolicy, system_resolve


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "ff02::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:0:a9:fea9:fe00::",
        "::ffff:0:169.254.169.254",
        "fd00:1::5efe:169.254.169.254",
        "fd00:1::200:5efe:169.254.169.254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
    ],
)
def test_refused(address: str) -> None:
    assert AddressPolicy().refusal(address)


@pytest.mark.parametrize(
    "address",
    [
        "10.89.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "8.8.8.8",
        "2001:4860::1",
        "fd12::1",
        "::ffff:8.8.8.8",
        "fd00:c1::1",
        "64:ff9b:1::808:808",
    ],
)
def test_allowed(address: str) -> None:
    assert AddressPolicy().refusal(address) is None


@pytest.mark.parametrize("spelling", ["2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518"])
def test_odd_spellings_are_judged_as_what_they_resolve_to(spelling: str) -> None:
    assert [AddressPolicy().refusal(address) is None for address in system_resolve(spelling, 443)] == [False]
