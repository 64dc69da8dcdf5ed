"""Makes the asserts of this folder's readers explain themselves."""

import pytest

pytest.register_assert_rewrite("conformance.wire")
