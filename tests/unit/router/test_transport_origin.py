"""Configured addresses: what each form means, what is refused, that no refusal quotes the text."""

import pytest

from llm_router.transport import Origin, Security


@pytest.mark.parametrize(
    ("url", "tls", "host", "port", "prefix", "authority"),
    [
        ("http://ollama:11434", False, "ollama", 11434, b"", b"ollama:11434"),
        ("http://ollama", False, "ollama", 80, b"", b"ollama"),
        ("http://ollama:80/", False, "ollama", 80, b"", b"ollama"),
        ("https://api.example.com/v1/", True, "api.example.com", 443, b"/v1", b"api.example.com"),
        ("https://api.example.com:80", True, "api.example.com", 80, b"", b"api.example.com:80"),
        ("HTTP://Ollama.NS.svc:1/a/b", False, "ollama.ns.svc", 1, b"/a/b", b"ollama.ns.svc:1"),
        ("http://10.0.0.7:8080", False, "10.0.0.7", 8080, b"", b"10.0.0.7:8080"),
        ("http://[::1]:8080/x", False, "::1", 8080, b"/x", b"[::1]:8080"),
        ("https://[2001:DB8:0::1]", True, "2001:db8::1", 443, b"", b"[2001:db8::1]"),
        ("http://my_host.local.", False, "my_host.local.", 80, b"", b"my_host.local."),
        (
            "http://bücher.example",
            False,
            "xn--bcher-kva.example",
            80,
            b"",
            b"xn--bcher-kva.example",
        ),
    ],
)
def test_address_is_parsed(
    url: str, tls: bool, host: str, port: int, prefix: bytes, authority: bytes
) -> None:
    origin = Origin.parse(url)
    assert (origin.tls, origin.host, origin.port) == (tls, host, port)
    assert (origin.prefix, origin.authority) == (prefix, authority)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "http"),
        ("ollama:11434", "http"),
        ("//ollama", "http"),
        ("ftp://ollama", "http"),
        ("unix:///run/ollama.sock", "http"),
        ("http://", "host"),
        ("http://:80", "host"),
        ("http:///path", "host"),
        ("http://-x", "host"),
        ("http://a b", "spaces"),
        ("http://a\r\nX: y", "control"),
        ("http://a\tb", "control"),
        (" http://a", "spaces"),
        ("http://a/\x00", "control"),
        ("http://a%00b", "host"),
        ("http://" + "a" * 255, "host"),
        ("http://user@host", "user"),
        ("http://user:hunter2@host", "user"),
        ("http://host?x=hunter2", "path"),
        ("http://host/#hunter2", "path"),
        ("http://host/?", "path"),
        ("http://host/ü", "printable"),
        ("http://host:0", "port"),
        ("http://host:65536", "port"),
        ("http://host:hunter2", "port"),
        ("http://[::1", "IPv6"),
        ("http://[hunter2]", "IPv6"),
        ("http://[fe80::1%25eth0]", "zone"),
        ("http://[fe80::1%eth0]", "zone"),
    ],
)
def test_other_text_is_refused_without_quoting_it(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Origin.parse(url)
    assert "hunter2" not in str(caught.value)


def test_equal_addresses_share_connections() -> None:
    one, other = Origin.parse("http://h:80/v1"), Origin.parse("http://H/v1/")
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other, Origin.parse("https://h:80/v1"), Origin.parse("http://h/v2")}) == 3


def test_text_form_names_scheme_port_and_prefix() -> None:
    assert str(Origin.parse("https://[::1]/v1")) == "https://[::1]:443/v1"


def test_other_tls_settings_share_no_connections() -> None:
    url = "https://h/v1"
    plain, insecure = Security.of(), Security.of(insecure=True)
    origins = [
        Origin.parse(url),
        Origin.parse(url, plain),
        Origin.parse(url, insecure),
        Origin.parse(url, Security.of(server_name="other")),
    ]
    assert len(set(origins)) == 4
    again = Origin.parse(url, Security.of(insecure=True))
    assert again == origins[2]
    assert hash(again) == hash(origins[2])
    assert again.security is not None
    assert again.security.context is insecure.context


def test_tls_settings_need_tls() -> None:
    with pytest.raises(ValueError, match="begins with https"):
        Origin.parse("http://h", Security.of())
