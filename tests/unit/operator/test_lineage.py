"""Which configurations hold an older form of a route that changed without its resource."""

from dataclasses import replace

from llm_contract import Route, Target, TargetType, Timeouts
from llm_operator.routers.lineage import PAST, Lineage
from llm_operator.routers.report import Report, RouteReport, Seen

ROUTE = Route(
    model="m",
    uid="u",
    generation=2,
    name="m",
    targets=(Target(name="mlx", type=TargetType.MLX, url="http://m:1", model="m"),),
    timeouts=Timeouts(total=9),
)
ALIASED = replace(ROUTE, aliases=("n",))


def lineage(*steps: tuple[str, Route]) -> frozenset[str]:
    made = Lineage()
    for checksum, route in steps:
        made.publish(checksum, {"u": route})
    return made.outdated("u")


def test_changes_of_others_outdate_nothing() -> None:
    assert lineage(("a", ROUTE), ("b", ROUTE), ("c", replace(ROUTE))) == frozenset()


def test_a_new_generation_tells_by_itself() -> None:
    assert lineage(("a", ROUTE), ("b", replace(ALIASED, generation=3))) == frozenset()


def test_a_new_form_outdates_all_before_it() -> None:
    assert lineage(("a", ROUTE), ("b", ROUTE), ("c", ALIASED)) == {"a", "b"}
    assert lineage(("a", ROUTE), ("b", ALIASED), ("c", ALIASED)) == {"a"}


def test_the_form_before_may_come_back() -> None:
    assert lineage(("a", ROUTE), ("b", ALIASED), ("a", ROUTE)) == {"b"}


def test_the_same_configuration_again_is_no_news() -> None:
    assert lineage(("a", ROUTE), ("b", ALIASED), ("b", ALIASED)) == {"a"}


def test_a_resource_that_goes_and_the_far_past_are_forgotten() -> None:
    made = Lineage()
    made.publish("a", {"u": ROUTE})
    made.publish("b", {"u": ALIASED})
    made.publish("c", {})
    assert made.outdated("u") == frozenset()
    for number in range(3 * PAST):
        made.publish(f"c{number}", {"u": ROUTE})
    made.publish("end", {"u": ALIASED})
    assert len(made.outdated("u")) == PAST


def test_a_router_with_an_older_form_does_not_run_it() -> None:
    report = Report(checksum="a", routes={"u": RouteReport(generation=2, targets=())})
    seen = Seen({"r": report})
    assert [one.runs(2) for one in seen.of("u")] == [True]
    assert [one.runs(2) for one in seen.of("u", outdated=frozenset("a"))] == [False]
    assert [one.runs(2) for one in seen.of("u", outdated=frozenset("b"))] == [True]
    assert [one.runs(2) for one in seen.of("u")] == [True]
