"""What routers answer is read without an error, whatever it is."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fuzz.profile import fuzz
from fuzz.shapes import SCALARS, documents
from llm_operator.routers.report import Report, Unreachable, parse

NAMES = st.sampled_from(
    "config rejected routes targets checksum uid generation name state failure since reason "
    "tokensPerSecond firstTokenSeconds".split()
)
CHECKSUM = "0" * 64


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    assert isinstance(parse(raw), Report | Unreachable)


@fuzz
@given(
    st.fixed_dictionaries(
        {
            "config": st.one_of(
                documents(NAMES),
                st.fixed_dictionaries(
                    {
                        "checksum": st.one_of(st.just(CHECKSUM), SCALARS),
                        "routes": st.lists(
                            st.one_of(
                                documents(NAMES),
                                st.fixed_dictionaries(
                                    {
                                        "uid": st.one_of(st.just("u"), SCALARS),
                                        "generation": st.one_of(st.just(1), SCALARS),
                                        "targets": st.lists(documents(NAMES), max_size=2),
                                    }
                                ),
                            ),
                            max_size=2,
                        ),
                    }
                ),
            ),
            "rejected": documents(NAMES),
        }
    )
)
def test_any_document(document: object) -> None:
    found = parse(json.dumps(document).encode())
    assert isinstance(found, Report | Unreachable)
    if isinstance(found, Report):
        # It can go into a status.
        json.dumps(found.rejected).encode("utf-8")
