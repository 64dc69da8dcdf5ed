"""How targets are reached: headers, credentials and TLS, and why one can't be asked."""

import re
from typing import Any

import pytest
import trustme

from llm_contract import Auth, HeaderEdits, Target, TargetType, Tls
from llm_router.access import HEADERS, MAX_VALUE, reach
from llm_router.credentials import NONE, Credentials

AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("router.example")
VALUES = {
    "token": b"s3cret\n",
    "ca": AUTHORITY.cert_pem.bytes(),
    "tls.crt": ISSUED.cert_chain_pems[0].bytes(),
    "tls.key": ISSUED.private_key_pem.bytes(),
    "bad": b"no pem",
}
MOUNTED = Credentials(values=VALUES, digest="1", folder="/etc/mounted")


def target(url: str = "https://mac:8443", **fields: Any) -> Target:
    return Target(name="t", type=TargetType.OPENAI, url=url, model="m", **fields)


def headers(*, edits: HeaderEdits | None = None, auth: Auth | None = None) -> dict[bytes, bytes]:
    access = reach(target(headers=edits or HeaderEdits(), auth=auth), MOUNTED)
    assert access.unusable == ""
    assert len(dict(access.headers)) == len(access.headers)
    return dict(access.headers)


def test_a_plain_target_needs_nothing() -> None:
    access = reach(target("http://mac:8080/v1"), NONE)
    assert access.headers == HEADERS
    assert (access.removed, access.unusable) == (frozenset(), "")
    assert str(access.origin) == "http://mac:8080/v1"
    assert access.origin.security is None


def test_equal_urls_are_one_origin() -> None:
    assert reach(target(), NONE).origin is reach(target(), MOUNTED).origin


def test_a_url_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="an upstream address"):
        reach(target("ftp://mac"), NONE)


class TestAuth:
    def test_the_value_follows_its_scheme(self) -> None:
        assert headers(auth=Auth(credential="token"))[b"authorization"] == b"Bearer s3cret"

    def test_any_header_and_no_scheme(self) -> None:
        made = headers(auth=Auth(credential="token", header="X-Api-Key", scheme=""))
        assert made[b"x-api-key"] == b"s3cret"
        assert b"authorization" not in made

    def test_a_client_cannot_send_that_header_too(self) -> None:
        auth = Auth(credential="token", header="X-Key", scheme="")
        assert reach(target(auth=auth), MOUNTED).removed == {b"x-key"}

    def test_it_wins_over_a_set_header(self) -> None:
        edits = HeaderEdits(set=(("X-Key", "mine"),))
        auth = Auth(credential="token", header="x-key", scheme="")
        assert headers(edits=edits, auth=auth)[b"x-key"] == b"s3cret"

    def test_not_mounted(self) -> None:
        access = reach(target(auth=Auth(credential="mac-a_token")), MOUNTED)
        assert access.unusable.startswith(
            "credential 'mac-a_token' is not mounted in /etc/mounted: "
        )
        assert access.headers == HEADERS
        assert str(access.origin) == "https://mac:8443"

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\n",
            b"two\nlines",
            b"two\r\nX-Injected: 1",
            b"nul\0",
            b"esc\x1b[0m",
            b"del\x7f",
            "ümlaut".encode(),
            b"x" * (MAX_VALUE + 1),
        ],
    )
    def test_a_value_that_is_no_header(self, value: bytes) -> None:
        found = Credentials(values={"k": value}, folder="/etc/mounted")
        access = reach(target(auth=Auth(credential="k")), found)
        assert access.unusable.startswith("credential 'k' can't be sent: a header's value is")
        assert access.headers == HEADERS
        for word in (b"lines", b"Injected", b"nul", b"xxx"):
            assert word.decode() not in access.unusable

    @pytest.mark.parametrize("value", [b"x", b" x\r\n", b"a b\tc\n\n", b"x" * MAX_VALUE])
    def test_a_value_that_is_one(self, value: bytes) -> None:
        found = Credentials(values={"k": value}, folder="/etc/mounted")
        access = reach(target(auth=Auth(credential="k", scheme="")), found)
        assert access.unusable == ""
        assert dict(access.headers)[b"authorization"] == value.strip()

    def test_no_text_holds_it(self) -> None:
        access = reach(target(auth=Auth(credential="token")), MOUNTED)
        assert "s3cret" not in repr(access)


class TestEdits:
    def test_set_headers_are_sent_and_replace_the_clients(self) -> None:
        edits = HeaderEdits(set=(("X-Tenant", "blue"), ("Accept", "application/json")))
        access = reach(target(headers=edits), NONE)
        assert dict(access.headers) == {
            b"content-type": b"application/json",
            b"accept": b"application/json",
            b"x-tenant": b"blue",
        }
        assert access.removed == {b"x-tenant"}

    def test_removed_ones_are_named_in_lower_case(self) -> None:
        edits = HeaderEdits(remove=("X-Trace", "openai-beta"))
        assert reach(target(headers=edits), NONE).removed == {b"x-trace", b"openai-beta"}

    def test_accept_can_be_removed(self) -> None:
        assert headers(edits=HeaderEdits(remove=("Accept", "ACCEPT", "content-type"))) == {
            b"content-type": b"application/json"
        }

    @pytest.mark.parametrize("name", ["Host", "content-length", "Connection", "a b", "a:", "ü", ""])
    def test_a_name_that_cannot_be_set(self, name: str) -> None:
        access = reach(target(headers=HeaderEdits(set=((name, "x"),))), NONE)
        assert f"header {name!r} can't be set" in access.unusable

    @pytest.mark.parametrize("text", ["", "a\r\nb", "ü", " a"])
    def test_a_text_that_cannot_be_set(self, text: str) -> None:
        access = reach(target(headers=HeaderEdits(set=(("X-A", text),))), NONE)
        assert "header 'X-A' can't be sent" in access.unusable


class TestTls:
    def test_settings_are_part_of_the_origin(self) -> None:
        plain = reach(target(), MOUNTED).origin
        others = [
            Tls(),
            Tls(ca="ca"),
            Tls(ca="ca", server_name="model.example"),
            Tls(insecure=True),
            Tls(client_certificate="tls.crt", client_key="tls.key"),
            Tls(ca="ca", client_certificate="tls.crt", client_key="tls.key"),
        ]
        origins = [reach(target(tls=tls), MOUNTED).origin for tls in others]
        assert len({plain, *origins}) == 7

    def test_a_table_built_anew_finds_the_same_connections(self) -> None:
        one = target(tls=Tls(ca="ca", client_certificate="tls.crt", client_key="tls.key"))
        first = reach(one, MOUNTED).origin
        again = reach(one, Credentials(values=dict(VALUES), digest="2", folder="/x")).origin
        assert first == again
        assert first.security is not None
        assert again.security is not None
        assert first.security.context is again.security.context

    def test_another_certificate_under_the_same_key_does_not(self) -> None:
        one = target(tls=Tls(ca="ca"))
        newer = {**VALUES, "ca": trustme.CA().cert_pem.bytes()}
        assert reach(one, MOUNTED).origin != reach(one, Credentials(values=newer)).origin

    @pytest.mark.parametrize(
        ("tls", "said"),
        [
            (Tls(ca="gone"), "credential 'gone' is not mounted in /etc/mounted"),
            (Tls(ca="bad"), r"^tls can't be used: the CA is no PEM of certificates.*\(of 'bad'\)$"),
            (
                Tls(client_certificate="tls.crt", client_key="bad"),
                r"the client certificate and its key are no PEM.*\(of 'tls.crt', 'bad'\)",
            ),
            (Tls(client_certificate="tls.crt"), "a client certificate without its key"),
            (Tls(client_key="tls.key"), "a key without its own"),
            (Tls(server_name="a b"), "the server name is a DNS name or an IP address"),
        ],
    )
    def test_what_is_wrong_makes_it_unusable(self, tls: Tls, said: str) -> None:
        access = reach(target(tls=tls), MOUNTED)
        assert access.origin.security is None
        assert re.search(said, access.unusable)

    def test_settings_for_a_url_without_tls(self) -> None:
        access = reach(target("http://mac", tls=Tls(insecure=True)), MOUNTED)
        assert "the URL begins with http://" in access.unusable
