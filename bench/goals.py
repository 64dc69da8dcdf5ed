"""One run of the bench, and what it says of the goals that the router is held to.

Goals are judged, never enforced: a goal missed is a row of the report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.figures import Figures, Requests
from bench.subjects import BARE, ROUTER, Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the bench."""

    when: str
    machine: str
    load: str
    quick: bool
    seconds: float
    stolen: float
    figures: Sequence[Figures]
    absent: Sequence[Absent]

    def one(self, name: str, way: str = "same protocol") -> Figures | None:
        """The figures of one way, if it was measured whole."""
        for each in self.figures:
            if (each.name, each.way) == (name, way) and not each.failure:
                return each
        return None


def added(through: Requests, direct: Requests) -> tuple[float, float]:
    """Milliseconds that p50 and p99 are longer than the direct ones."""
    return (through.p50 - direct.p50) / 1000, (through.p99 - direct.p99) / 1000


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise: how it is said, and what the run says of it (figure and whether it is met)."""

    promise: str
    judge: Callable[[Run], tuple[str, bool] | None]

    def row(self, run: Run) -> list[str]:
        """Its row; without the figures it needs, it is not judged."""
        judged = self.judge(run)
        if judged is None:
            return [self.promise, "not measured in this run", "-"]
        return [self.promise, judged[0], "met" if judged[1] else "**not met**"]


def _call(run: Run) -> tuple[str, bool] | None:
    router = run.one(ROUTER)
    if router is None or router.one is None or router.one_direct is None:
        return None
    p50, p99 = added(router.one, router.one_direct)
    return f"{p50:.3f} ms, p99 {p99:.3f} ms", p50 <= 0.15 and p99 <= 0.5


def _against(name: str, least: float) -> Callable[[Run], tuple[str, bool] | None]:
    def judge(run: Run) -> tuple[str, bool] | None:
        router, peer = run.one(ROUTER), run.one(name)
        if router is None or peer is None or router.many is None or peer.many is None:
            return None
        ratio = router.many.rate / peer.many.rate
        return f"{ratio:.2f} ({router.many.rate:,.0f} to {peer.many.rate:,.0f})", ratio >= least

    return judge


def _event(way: str, most: float) -> Callable[[Run], tuple[str, bool] | None]:
    def judge(run: Run) -> tuple[str, bool] | None:
        router = run.one(ROUTER, way)
        if router is None or router.steady is None:
            return None
        spent = router.steady.cpu_per_event
        return f"{spent:.1f} us", spent <= most

    return judge


def _crowd(run: Run) -> tuple[str, bool] | None:
    router = run.one(ROUTER, "translated")
    if router is None or 256 not in router.spoken:
        return None
    direct, through = router.spoken[256]
    later = (through.gap[1] - direct.gap[1]) / 1000
    share = through.cpu_per_event * 256 * 50 / 1e6
    whole = through.ended == through.asked
    slower = through.seconds / direct.seconds - 1
    told = (
        f"{through.ended} of {through.asked} whole, the run {slower:+.1%} long, {later:.2f} ms "
        f"at p99, {share:.0%} of a core"
    )
    return told, whole and slower <= 0.01 and later <= 2 and share <= 0.6


def _most(run: Run) -> tuple[str, bool] | None:
    router = run.one(ROUTER, "translated")
    if router is None or router.fast is None:
        return None
    rate = router.fast.events / router.fast.seconds
    return f"{rate:,.0f}", rate >= 60_000


def _memory(run: Run) -> tuple[str, bool] | None:
    router = run.one(ROUTER)
    if router is None:
        return None
    return f"{router.rss_start / 1024:.1f} MB", router.rss_start / 1024 <= 60


def _each_stream(run: Run) -> tuple[str, bool] | None:
    router = run.one(ROUTER, "same protocol")
    if router is None or 256 not in router.spoken:
        return None
    grown = router.spoken[256][1].grown_kib
    return f"{grown:.1f} KiB", grown <= 32


def _floor(run: Run) -> tuple[str, bool] | None:
    bare, nginx = run.one(BARE), run.one("nginx")
    if bare is None or nginx is None or bare.many is None or nginx.many is None:
        return None
    ratio = bare.many.rate / nginx.many.rate
    return f"{ratio:.2f} ({bare.many.rate:,.0f} to {nginx.many.rate:,.0f})", ratio >= 0.35


GOALS = (
    Goal("added to a direct call at 1 connection: p50 <= 0.15 ms, p99 <= 0.5 ms", _call),
    Goal("requests/s at 32 connections: >= 0.35 of nginx proxying", _against("nginx", 0.35)),
    Goal("what is left of 0.35 when the router does nothing: `bare` of nginx", _floor),
    Goal("the same: >= 120 x LiteLLM", _against("LiteLLM", 120)),
    Goal("the same: above vllm-router", _against("vllm-router", 1)),
    Goal("the same: above Portkey", _against("Portkey", 1)),
    Goal("CPU for each streamed event, same protocol: <= 29 us", _event("same protocol", 29)),
    Goal("CPU for each streamed event, translated: <= 45 us", _event("translated", 45)),
    Goal(
        "256 streams at 50 tokens/s, translated: none slowed, <= 2 ms added between tokens at p99, "
        "<= 60 % of a core",
        _crowd,
    ),
    Goal("most translated tokens/s through one core: >= 60,000", _most),
    Goal("memory after start: <= 60 MB", _memory),
    Goal("memory for each open stream: <= 32 KiB", _each_stream),
)
