"""TLS settings made of PEM: what is taken, what is refused, and that nothing of a key gets out."""

import gc
import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from llm_router.transport import Security, tls

AUTHORITY = trustme.CA()
CA = AUTHORITY.cert_pem.bytes()
ISSUED = AUTHORITY.issue_cert("client.example")
CERTIFICATE = b"".join(blob.bytes() for blob in ISSUED.cert_chain_pems)
KEY = ISSUED.private_key_pem.bytes()
OTHER_KEY = AUTHORITY.issue_cert("other.example").private_key_pem.bytes()


def encrypted(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )


def test_the_system_verifies_unless_told_otherwise() -> None:
    context = Security.of().context
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_only_the_given_authorities_are_trusted() -> None:
    context = Security.of(ca=CA).context
    assert context.cert_store_stats()["x509"] == 1
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_several_authorities_and_words_between_them() -> None:
    text = "Für daheim\n".encode() + CA + b"\nand another\n" + trustme.CA().cert_pem.bytes()
    assert Security.of(ca=text).context.cert_store_stats()["x509"] == 2


def test_insecure_verifies_nothing() -> None:
    context = Security.of(ca=CA, insecure=True).context
    assert context.verify_mode == ssl.CERT_NONE
    assert not context.check_hostname


def test_equal_settings_share_a_context_while_it_is_used() -> None:
    one = Security.of(ca=CA, certificate=CERTIFICATE, key=KEY)
    assert Security.of(ca=CA, certificate=CERTIFICATE, key=KEY, server_name="x") != one
    other = Security.of(ca=CA, certificate=CERTIFICATE, key=KEY)
    assert other == one
    assert other.context is one.context
    identity = one.identity
    assert identity in tls._contexts
    del one, other
    gc.collect()
    assert identity not in tls._contexts


def test_each_part_makes_a_difference() -> None:
    made = {
        Security.of(),
        Security.of(insecure=True),
        Security.of(ca=CA),
        Security.of(ca=CA, insecure=True),
        Security.of(ca=CA, certificate=CERTIFICATE, key=KEY),
        Security.of(certificate=CERTIFICATE, key=KEY),
        Security.of(server_name="a"),
        Security.of(server_name="b"),
    }
    assert len(made) == 8


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "said"),
    [
        # NB: of these two nothing is left, which ssl takes for "the system's".
        (b"", None, None, "the CA is no PEM"),
        ("ü".encode(), None, None, "the CA is no PEM"),
        (b"nonsense", None, None, "the CA is no PEM"),
        (KEY, None, None, "the CA is no PEM"),
        (CA[:-60], None, None, "the CA is no PEM"),
        (None, b"nonsense", KEY, "no PEM of one pair"),
        (None, b"", b"", "no PEM of one pair"),
        (None, CERTIFICATE, b"nonsense", "no PEM of one pair"),
        (None, CERTIFICATE, KEY[:-60], "no PEM of one pair"),
        (None, CERTIFICATE, OTHER_KEY, r"no PEM of one pair.*MISMATCH"),
        (None, CERTIFICATE, encrypted(KEY), "the key is encrypted"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(
    ca: bytes | None, certificate: bytes | None, key: bytes | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Security.of(ca=ca, certificate=certificate, key=key)
    assert caught.value.__cause__ is None
    for line in (key or b"").decode().splitlines():
        assert not line or line not in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "a..b", "-a", "a b", "a\r\nb", "a" * 64, "a." * 128])
def test_a_server_name_is_a_host(name: str) -> None:
    with pytest.raises(ValueError, match="the server name is"):
        Security.of(server_name=name)


@pytest.mark.parametrize(
    ("name", "sent"),
    [("Model.Example.", "model.example"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1")],
)
def test_a_server_name_is_made_plain(name: str, sent: str) -> None:
    assert Security.of(server_name=name).server_name == sent


def test_no_key_is_written_where_others_could_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(os.listdir("/dev/fd"))
    Security.of(certificate=CERTIFICATE, key=KEY)
    assert not list(tmp_path.iterdir())
    assert set(os.listdir("/dev/fd")) == before


def test_where_memory_has_no_files_an_unlinked_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert Security.of(certificate=CERTIFICATE, key=KEY)
    assert not list(tmp_path.iterdir())


def test_its_text_holds_nothing_of_it() -> None:
    made = Security.of(ca=CA, certificate=CERTIFICATE, key=KEY, server_name="a")
    assert repr(made) == "Security(server_name='a')"
