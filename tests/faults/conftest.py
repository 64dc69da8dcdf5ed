"""What tests of a failing Postgres share: the proxy in front of it."""

from collections.abc import Callable

import pytest

from parts.postgres import Postgres
from parts.proxy import Address, Proxy


@pytest.fixture
def proxy(make_proxy: Callable[[Address], Proxy], postgres: Postgres) -> Proxy:
    return make_proxy(postgres.socket)
