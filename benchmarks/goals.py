"""Every ratio and size that the issues promise, with the benchmark that measures it.

A goal that no row answers stands in the table as not measured: it cannot get lost by a benchmark that was not run.
"""

from __future__ import annotations

from dataclasses import dataclass

from rows import Goal, Row

SMOLLM2 = "SmolLM2-135M"
TIME, FASTER, EXTRA = "x its time", "x as fast", "x its extra memory"


@dataclass(frozen=True)
class Promise:
    """A row that is due, before it is measured.

    Attributes:
        by: the benchmark.
        unmeasured: why it is not measured where the benchmark ran and gave no such row.
    """

    what: str
    against: str
    unit: str
    goal: Goal
    by: str
    unmeasured: str = "the benchmark gave no such row"


def _sink(length: int, most: float, source: str = "issue 3, part 6") -> Promise:
    what = f"attention received by every key, {SMOLLM2}, T = {length:,}"
    return Promise(what, "plain sdpa forward", TIME, Goal("<=", most, source), "sink_overhead")


def _kernel(what: str, against: str, least: float, source: str = "issue 7, part 1") -> Promise:
    return Promise(what, against, FASTER, Goal(">=", least, source), "scoring")


def _fused(length: str, unit: str, most: float) -> Promise:
    what = f"attention received by every key, Qwen3-14B's shape, bf16, T = {length}"
    no_gpu = "no GPU"
    return Promise(what, "plain sdpa prefill", unit, Goal("<=", most, "issue 7, part 2"), "fused_engine", no_gpu)


_EAGER = "HF eager, `output_attentions`"
_LOOP = "one head at a time"
_FOLD = "block fold, all statistics in one pass"
_SUM = "one column sum, as a trace takes it"
_MILLIONS = "10^7 rows"

GOALS: dict[str, Promise] = {
    "sink_overhead.time.512": _sink(512, 1.15),
    "sink_overhead.time.2048": _sink(2048, 1.15),
    "sink_overhead.time.4096": _sink(4096, 1.2),
    "sink_overhead.time.8192": _sink(8192, 1.2, "issue 7, part 2"),
    "sink_overhead.eager.2048": Promise(
        f"attention received by every key, {SMOLLM2}, T = 2,048",
        _EAGER,
        FASTER,
        Goal(">=", 2.5, "issue 3, part 6"),
        "sink_overhead",
    ),
    "sink_overhead.memory.2048": Promise(
        f"extra peak memory for attention received, {SMOLLM2}, T = 2,048",
        _EAGER,
        EXTRA,
        Goal("<=", 0.10, "issue 3, part 6"),
        "sink_overhead",
    ),
    "cli_start.help": Promise("`interp --help`", "the clock", "s", Goal("<=", 0.5, "issue 3, part 6"), "cli_start"),
    "cli_start.load": Promise(
        f"loading {SMOLLM2} once it was fetched, libraries imported",
        "the clock",
        "s",
        Goal("<", 3, "issue 3, part 2"),
        "cli_start",
    ),
    "scan_time.scan": Promise(
        f"`interp scan --find sinks`, {SMOLLM2}, 8 prompts of 512 tokens, loading included",
        "the clock",
        "s",
        Goal("<=", 60, "issue 3, part 6"),
        "scan_time",
    ),
    "retrieval.full": Promise(
        f"scoring retrieval heads, {SMOLLM2}, prompts read in full",
        "`generate`, nobody looking",
        TIME,
        Goal("<=", 1.3, "issue 5, part 9"),
        "retrieval",
    ),
    "retrieval.shared": Promise(
        f"scoring retrieval heads, {SMOLLM2}, shared prefixes",
        "`generate`, nobody looking",
        TIME,
        Goal("<", 1.0, "issue 5, part 9"),
        "retrieval",
    ),
    "retrieval.eager.4096": Promise(
        f"scoring retrieval heads, {SMOLLM2}, T = 4,096",
        "eager `output_attentions`, step by step",
        FASTER,
        Goal(">=", 3, "issue 5, part 9"),
        "retrieval",
    ),
    "retrieval.memory.4096": Promise(
        f"extra peak memory for retrieval heads, {SMOLLM2}, T = 4,096",
        "eager `output_attentions`, step by step",
        EXTRA,
        Goal("<=", 0.10, "issue 5, part 9"),
        "retrieval",
    ),
    "circuit_effects.direct": Promise(
        f"`direct` effect of every head, {SMOLLM2}, IOI",
        _LOOP,
        FASTER,
        Goal(">=", 50, "issue 6, part 3"),
        "circuit_effects",
    ),
    "circuit_effects.total": Promise(
        f"`total` effect of every head, {SMOLLM2}, IOI",
        _LOOP,
        FASTER,
        Goal(">=", 4, "issue 6, part 3"),
        "circuit_effects",
    ),
    "circuit_effects.memory": Promise(
        "peak memory of `direct` and `total`, the model included",
        "the limit",
        "GiB",
        Goal("<=", 4, "issue 6, part 3"),
        "circuit_effects",
    ),
    "circuit_effects.difference": Promise(
        "largest difference of `direct` and `total` from the loop, in logits",
        _LOOP,
        "logits",
        Goal("<=", 1e-4, "issue 6, part 3"),
        "circuit_effects",
    ),
    "scoring.bootstrap.numpy": _kernel(f"bootstrap intervals, {_MILLIONS}", "NumPy", 10),
    "scoring.bootstrap.pandas": _kernel(f"bootstrap intervals, {_MILLIONS}", "pandas", 10),
    "scoring.copies.numpy": _kernel(f"copy matching, {_MILLIONS}", "NumPy", 10),
    "scoring.copies.pandas": _kernel(f"copy matching, {_MILLIONS}", "pandas", 10),
    "scoring.spans.numpy": _kernel(f"span finding, {_MILLIONS}", "NumPy", 10),
    "scoring.spans.pandas": _kernel(f"span finding, {_MILLIONS}", "pandas", 10),
    "scoring.fold.torch": _kernel(_FOLD, "torch, one by one", 3),
    "scoring.fold.numpy": _kernel(_FOLD, "NumPy, one by one", 3),
    # "no slower": what a clock can tell apart is about one part in twenty
    "scoring.sum.torch": _kernel(_SUM, "torch", 0.95),
    "scoring.sum.numpy": _kernel(_SUM, "NumPy", 0.95),
    "fused_engine.time.4k": _fused("4k", TIME, 2),
    "fused_engine.time.32k": _fused("32k", TIME, 2),
    "fused_engine.time.128k": _fused("128k", TIME, 2),
    "fused_engine.memory.4k": _fused("4k", "GB beyond it", 2),
    "fused_engine.memory.32k": _fused("32k", "GB beyond it", 2),
    "fused_engine.memory.128k": _fused("128k", "GB beyond it", 2),
    "memory_plan": Promise(
        "peak memory of a scan as planned, three shapes of models",
        "the peak measured",
        "x the peak",
        Goal("within", 0.2, "issue 7, done means"),
        "memory_plan",
    ),
}


def promise_of(name: str) -> str | None:
    """The key of `GOALS` that a row's name answers: the name itself, or the name less its last part."""
    return next((key for key in (name, name.rpartition(".")[0]) if key in GOALS), None)


def known(name: str) -> tuple[dict[str, str], Goal | None]:
    """Texts and goal of a row; empty and None where the catalogue has none."""
    key = promise_of(name)
    if key is None:
        return {}, None
    promise = GOALS[key]
    return {"what": promise.what, "against": promise.against, "unit": promise.unit}, promise.goal


def unanswered(rows: list[Row], why: dict[str, str]) -> list[Row]:
    """A row for every goal that none of `rows` answers; `why` says for a benchmark that did not do its work what
    happened to it."""
    answered = {promise_of(row.name) for row in rows}
    return [
        Row(name, due.what, due.against, due.unit, goal=due.goal, note=why.get(due.by, due.unmeasured))
        for name, due in GOALS.items()
        if name not in answered
    ]
