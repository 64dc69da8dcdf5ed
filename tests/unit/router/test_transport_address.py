"""Which addresses may be connected to, after the resolver has spoken."""

import asyncio
from typing import Any

import pytest

from llm_router.transport import ConnectFailed, Origin
from llm_router.transport.address import _interleaved, is_numeric, is_refused, resolve


@pytest.mark.parametrize(
    "address",
    [
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fe80::1",
        "fe80::1%eth0",
        "febf:ffff::",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::23",
        "::ffff:168.63.129.16",
        "::a9fe:a9fe",
        "::ffff:0:169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:ffff::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
)
def test_link_local_and_metadata_addresses_are_refused(address: str) -> None:
    assert is_refused(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.253.255.255",
        "169.255.0.0",
        "100.100.100.100",
        # They lead to this machine, as loopback does.
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b:1::a00:1",
        "2002:a00:1::1",
        "64:ff9b::a00:1",
        "fd00:ec2::253",
        "fec0::1",
        "2001:db8::1",
    ],
)
def test_others_are_allowed(address: str) -> None:
    assert not is_refused(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::1"])
async def test_address_needs_no_resolver(host: str) -> None:
    assert is_numeric(host)
    url = f"http://[{host}]" if ":" in host else f"http://{host}"
    assert await resolve(Origin.parse(url)) == [host]


async def test_name_is_resolved() -> None:
    assert set(await resolve(Origin.parse("http://localhost"))) <= {"127.0.0.1", "::1"}


# NB: the resolver of the C library takes these for addresses, where the strict parser takes none.
@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0.1"])
async def test_other_spellings_of_a_refused_address_are_refused_too(host: str) -> None:
    assert not is_numeric(host)
    with pytest.raises(ConnectFailed, match=f"^http://{host}:80: 169.254") as caught:
        await resolve(Origin.parse(f"http://{host}"))
    assert caught.value.reason == "refused_address"


async def test_a_name_that_leads_there_is_refused_whatever_the_resolver_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"all.test": ["169.254.169.254", "fe80::1"], "some.test": ["fe80::1", "10.0.0.1"]}

    async def getaddrinfo(host: str, port: int, **options: object) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in answers[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectFailed, match="metadata address") as caught:
        await resolve(Origin.parse("http://all.test"))
    assert caught.value.reason == "refused_address"
    assert await resolve(Origin.parse("http://some.test")) == ["10.0.0.1"]


async def test_name_without_address() -> None:
    with pytest.raises(ConnectFailed, match=r"^http://no-such-host.invalid:80: ") as caught:
        await resolve(Origin.parse("http://no-such-host.invalid"))
    assert caught.value.reason == "dns"


@pytest.mark.parametrize(
    ("resolved", "tried"),
    [
        (["1.1.1.1"], ["1.1.1.1"]),
        (["::1", "::2", "::3", "1.1.1.1"], ["::1", "1.1.1.1", "::2", "::3"]),
        (["1.1.1.1", "::1", "2.2.2.2", "::2"], ["1.1.1.1", "::1", "2.2.2.2", "::2"]),
    ],
)
def test_families_alternate(resolved: list[str], tried: list[str]) -> None:
    assert _interleaved(resolved) == tried
