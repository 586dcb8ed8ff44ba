"""The facts of one run that a comparison puts into a row. What a run does not have stays empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.finders.sink_pictures import ORDER
from interp.findings import Column
from interp.report.sections import first_sentence
from interp.runs.result import ScanResult


@dataclass(frozen=True)
class Compared:
    """One run of a comparison: the name it goes by, its folder, what it holds."""

    name: str
    folder: Path
    result: ScanResult

    @property
    def layers(self) -> int | None:
        """Number of blocks of its model; None where the provenance does not say."""
        layers = model_of(self.result).get("layers")
        return layers if isinstance(layers, int) and layers > 0 else None


@dataclass(frozen=True)
class Fact:
    """A column of the comparison and where its value comes from; None = this run has none."""

    column: Column
    of: Callable[[Compared], Any]


def model_of(result: ScanResult) -> dict[str, Any]:
    """What the provenance says of the model."""
    model = result.provenance.get("model")
    return model if isinstance(model, dict) else {}


def inside(value: Any, *keys: str) -> Any:
    """``value[key][key]...``, None where something on the way is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def lengths(run: Compared) -> str | None:
    """``512`` or ``105 to 512``."""
    sizes = [len(prompt) for prompt in run.result.prompts]
    return None if not sizes else f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"


def _summary(*keys: str) -> Callable[[Compared], Any]:
    return lambda run: inside(run.result.findings.summary, *keys)


def _check(name: str) -> Callable[[Compared], Any]:
    return lambda run: getattr(run.result.findings.verification, name, None)


def _of_kind(kind: str) -> Callable[[Compared], int | None]:
    def count(run: Compared) -> int | None:
        table = run.result.findings.table
        return int((table["kind"] == kind).sum()) if "kind" in table else None

    return count


def kinds(runs: Sequence[Compared]) -> list[str]:
    """The kinds of found things in any of the runs; where they are sinks, all kinds of them, found or not."""
    tables = [run.result.findings.table for run in runs]
    found = dict.fromkeys(str(kind) for table in tables if "kind" in table for kind in table["kind"].dropna())
    return [*ORDER, *(kind for kind in found if kind not in ORDER)] if set(found) & set(ORDER) else list(found)


def facts(runs: Sequence[Compared]) -> list[Fact]:
    """The columns of the comparison; those that no run has are left out by `interp.comparison.build`."""
    first: list[Fact] = [
        Fact(
            Column(
                "run",
                "string",
                "run",
                "Name of the run here: its model (a circuit's: its task), with its folder where that repeats.",
            ),
            _name,
        ),
        Fact(Column("layers", "Int64", "layers", "Number of blocks of the model."), lambda run: run.layers),
        Fact(Column("prompts", "Int64", "prompts", "Number of prompts."), lambda run: len(run.result.prompts) or None),
        Fact(Column("T", "string", "T", "Length of the prompts, tokens."), lengths),
        Fact(Column("rows", "Int64", "rows", "Rows of its table: found things."), lambda run: len(run.result.table)),
    ]
    by_kind = [
        Fact(Column(f"n_{kind}", "Int64", kind, f"Rows of kind {kind}."), _of_kind(kind)) for kind in kinds(runs)
    ]
    return [*first, *by_kind, *_by_class(runs), *_MEASURED, *_CHECKED]


def _by_class(runs: Sequence[Compared]) -> list[Fact]:
    """How many heads each class has, where runs classified heads."""
    counts = [inside(run.result.findings.summary, "counts") for run in runs]
    classes = dict.fromkeys(
        str(name) for one in counts if isinstance(one, Mapping) for name, count in one.items() if isinstance(count, int)
    )
    return [
        Fact(Column(f"heads_{name}", "Int64", f"{name} heads", f"Heads of class {name}."), _summary("counts", name))
        for name in classes
    ]


def _name(run: Compared) -> str:
    return run.name


_MEASURED = (
    Fact(
        Column("anchor_mass", "float64", "anchor mass", "Attention the anchor receives, mean over layers and heads."),
        _summary("sink_rate", "anchor", "mean_mass"),
    ),
    Fact(
        Column("sink_k", "float64", "Sink_k, %", "Heads that give the anchor more than eps, percent (Gu et al. 2024)."),
        _summary("sink_rate", "anchor", "percent"),
    ),
    Fact(Column("task", "string", "task", "Task whose circuit it is."), _summary("task")),
    Fact(
        Column("circuit", "Int64", "heads in circuit", "Heads of its circuit."),
        lambda run: None if (found := inside(run.result.findings.summary, "circuit")) is None else len(found),
    ),
    Fact(
        Column("retrieval", "Int64", "retrieval heads", "Heads whose retrieval score reaches the threshold."),
        lambda run: None if (found := inside(run.result.findings.summary, "retrieval")) is None else len(found),
    ),
    Fact(
        Column("accuracy", "float64", "accuracy", "Share of prompts with the answer above every wrong token."),
        _summary("behaviour", "accuracy", "mean"),
    ),
    Fact(
        Column("logit_difference", "float64", "logit difference", "Answer less wrong tokens, mean over prompts."),
        _summary("behaviour", "difference", "mean"),
    ),
    Fact(
        Column(
            "faithfulness", "float64", "faithfulness", "Share of what all heads do that the circuit does, by means."
        ),
        _summary("evaluation", "faithfulness", "mean", "share", "mean"),
    ),
    Fact(
        Column("levels", "Int64", "levels", "Levels of (start layer, lifetime) over the prompts, all sinks."),
        _summary("level_count", "found"),
    ),
    Fact(
        Column("secondary_levels", "Int64", "secondary levels", "Levels of the secondary sinks alone."),
        _summary("claims", "secondary_levels", "found"),
    ),
    Fact(
        Column("levels_low", "float64", "secondary levels, low", "2.5 % quantile over resamples of the prompts."),
        _summary("claims", "secondary_levels", "low"),
    ),
    Fact(
        Column("levels_high", "float64", "secondary levels, high", "97.5 % quantile over resamples of the prompts."),
        _summary("claims", "secondary_levels", "high"),
    ),
)
_CHECKED = (
    Fact(
        Column("check", "string", "causal check", "Verdict of the run's own causal check."),
        lambda run: _check("verdict")(run) or "not run",
    ),
    Fact(Column("effect", "float64", "effect", "Change of the check's metric for what was found."), _check("effect")),
    Fact(Column("effect_low", "float64", "effect, low", "Lower end of its interval."), _check("effect_low")),
    Fact(Column("effect_high", "float64", "effect, high", "Upper end of its interval."), _check("effect_high")),
    Fact(Column("control", "float64", "controls", "The same change for matched controls."), _check("control")),
    Fact(
        Column("verdict", "string", "verdict", "First sentence of the run's verdict."),
        lambda run: first_sentence(run.result.verdict)[0],
    ),
    Fact(Column("folder", "string", "folder", "The run folder."), lambda run: str(run.folder)),
)
