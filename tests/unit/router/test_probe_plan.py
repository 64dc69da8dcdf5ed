"""What is asked of each host: one plan a URL, shared by all routes that use it."""

from dataclasses import replace
from typing import Any

import pytest

from llm_contract import (
    CHECKSUM_KEY,
    CONFIG_KEY,
    ActiveCheck,
    Auth,
    HealthCheck,
    Route,
    Target,
    TargetType,
)
from llm_router.credentials import Credentials
from llm_router.mount import Published
from llm_router.probe.plan import Plan, plans
from llm_router.standing import Standings
from llm_router.table import Table
from parts.router import files, mlx, ollama, route

HOST = "http://mac:11434"
SECRETS = Credentials(values={"key": b"a-secret"}, folder="x")


def table(*routes: Route, standings: Standings | None = None) -> Table:
    payload = files(*routes)
    published = Published(payload[CONFIG_KEY], payload[CHECKSUM_KEY].decode())
    return Table.build(published, standings or Standings(), SECRETS)


def checked(model: str, target: Target, **active: Any) -> Route:
    return replace(route(model, target), health=HealthCheck(active=ActiveCheck(**active)))


def only(*routes: Route) -> Plan:
    [plan] = plans(table(*routes)).values()
    return plan


def openai(url: str = "http://vllm:8000", **more: Any) -> Target:
    return Target(name="vllm", type=TargetType.OPENAI, url=url, model="big", **more)


def test_one_plan_a_host_with_the_shortest_times_and_lowest_thresholds() -> None:
    plan = only(
        checked("a", ollama(HOST, model="a"), interval=30, timeout=1, unhealthy_threshold=5),
        checked("b", ollama(HOST, model="b"), interval=10, timeout=4, healthy_threshold=2),
        checked("c", ollama(HOST, model="c"), enabled=False, interval=1, timeout=0.5),
    )
    assert (plan.interval, plan.timeout) == (10, 1)
    assert (plan.unhealthy_threshold, plan.healthy_threshold) == (2, 1)
    [look] = plan.looks
    assert {wanted.model for wanted in look.wanted} == {"a", "b"}


def test_a_host_that_no_route_wants_probed_is_not() -> None:
    assert plans(table(checked("a", ollama(HOST), enabled=False))) == {}


def test_an_alias_is_no_second_wish() -> None:
    [look] = only(replace(route("a", ollama(HOST)), aliases=("b", "c"))).looks
    assert len(look.wanted) == 1


@pytest.mark.parametrize(
    ("target", "path", "listed"),
    [
        (ollama(HOST), b"/api/tags", b"/api/tags"),
        (mlx("http://mac:8080"), b"/health", None),
        (mlx("http://mac:8080", model="org/named"), b"/health", None),
        (openai(), b"/v1/models", b"/v1/models"),
        (openai(health_path="/ready"), b"/ready", b"/v1/models"),
        (replace(ollama(HOST), health_path="/healthz"), b"/healthz", b"/api/tags"),
    ],
)
def test_each_type_is_asked_what_costs_no_tokens(
    target: Target, path: bytes, listed: bytes | None
) -> None:
    [look] = only(route("m", target)).looks
    assert (look.path, look.listed) == (path, listed)


def test_the_list_is_not_asked_for_where_the_model_is_not_required() -> None:
    [look] = only(checked("m", openai(), require_model=False)).looks
    assert look.listed is None
    assert not look.wanted[0].required


def test_one_route_that_requires_the_model_is_enough() -> None:
    [look] = only(
        checked("a", openai(), require_model=False), checked("b", openai(), require_model=True)
    ).looks
    assert [wanted.required for wanted in look.wanted] == [True]


def test_other_credentials_are_another_look() -> None:
    plan = only(
        route("open", openai()),
        route("closed", replace(openai(auth=Auth(credential="key")), model="other")),
    )
    assert sorted(look.secret for look in plan.looks) == [False, True]
    [closed] = [look for look in plan.looks if look.secret]
    assert b"Bearer a-secret" in dict(closed.headers).values()


def test_a_target_that_can_not_be_asked_is_not_probed() -> None:
    assert plans(table(route("m", openai(auth=Auth(credential="absent"))))) == {}


def test_the_same_configuration_is_the_same_plan() -> None:
    standings = Standings()
    one = plans(table(route("m", ollama(HOST)), standings=standings))
    other = plans(table(route("m", ollama(HOST)), route("n", mlx("http://x")), standings=standings))
    assert one[HOST] == other[HOST]
    more = plans(table(route("m", ollama(HOST, model="new")), standings=standings))
    assert one[HOST] != more[HOST]
