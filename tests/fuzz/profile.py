"""How hard this folder tries: a little and always alike, or with LLMB_FUZZ=1 long and at random.

@fuzz
@given(...)
def test_x(...)
"""

import os

from hypothesis import HealthCheck, settings

DEEP = os.environ.get("LLMB_FUZZ") == "1"

#: Examples of one test.
EXAMPLES = int(os.environ.get("LLMB_FUZZ_EXAMPLES", "4000")) if DEEP else 60

#: For a test of one case.
fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=not DEEP,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    ],
)

#: For a test of large values, or of ten cases or so, each of which gets its share.
fuzz_each = settings(fuzz, max_examples=EXAMPLES // 5)
