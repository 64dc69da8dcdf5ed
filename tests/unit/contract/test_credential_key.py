"""Keys of the mounted Secret: one source, one key, and one key, one source."""

import itertools
import re

from llm_contract.credentials import MAX_KEY, MAX_NAME, SourceKind, credential_key


def test_examples() -> None:
    assert credential_key(SourceKind.SECRET, "mac-a-token", "token") == "mac-a-token_token"
    assert credential_key(SourceKind.CONFIG_MAP, "home-ca", "ca.crt") == "_home-ca_ca.crt"


def test_no_two_sources_share_a_key() -> None:
    names = ("a", "a.b", "a-b", "configmap", "a.configmap", "0")
    keys = ("k", "_", "_k", "a_k", "k_a_b", ".k", "a.b_k", "tls.crt", "__")
    sources = list(itertools.product(SourceKind, names, keys))
    made = {credential_key(*source) for source in sources}
    assert len(made) == len(sources)
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]+", key) for key in made)
    # What the API server takes for no key at all.
    assert not any(key in (".", "..") or key.startswith("..") for key in made)


def test_the_longest_is_a_key_still() -> None:
    longest = credential_key(SourceKind.CONFIG_MAP, "a" * MAX_NAME, "k" * MAX_KEY)
    assert len(longest) == 253
