"""Heads that an earlier run found: ``RUN``, a run folder, or ``RUN:class``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.ablation.config import Head
from interp.errors import UsageError

if TYPE_CHECKING:
    from interp.findings import Findings


@dataclass(frozen=True)
class Origin:
    """Heads of a run.

    Attributes:
        heads: ``layer.head``, in order.
        shape: (layers, heads) of the model they were found in.
        told: what they are, for a sentence ("circuit, class mover, of run NAME on MODEL").
    """

    heads: tuple[str, ...]
    shape: tuple[int, int]
    told: str

    def settings(self) -> dict[str, Any]:
        """As settings of the ablation finder."""
        return {"heads": list(self.heads), "origin": self.told, "origin_shape": list(self.shape)}


@dataclass(frozen=True)
class Sets:
    """What one kind of run found.

    Attributes:
        whole: its heads; None where a class has to be named.
        classes: its heads by class.
        told: what `whole` is.
    """

    whole: Sequence[Head] | None
    classes: Mapping[str, Sequence[Head]]
    told: str


def of_circuit(findings: Findings) -> Sets:
    summary = findings.summary
    return Sets(pairs(summary["circuit"]), {kind: pairs(of) for kind, of in summary["classes"].items()}, "circuit")


def of_ablation(findings: Findings) -> Sets:
    return Sets(pairs(findings.summary["selected_heads"]), {}, "ablated heads")


def of_heads(findings: Findings) -> Sets:
    return Sets(None, {kind: pairs(of) for kind, of in findings.summary["sets"].items()}, "heads")


def of_retrieval(findings: Findings) -> Sets:
    return Sets(pairs(one.split(".") for one in findings.summary["retrieval"]), {}, "retrieval heads")


KNOWN: dict[str, Callable[[Findings], Sets]] = {
    "circuit": of_circuit,
    "ablation": of_ablation,
    "heads": of_heads,
    "retrieval-heads": of_retrieval,
}
"""Finders whose runs name heads, and where."""


def heads_from(run: str | os.PathLike[str]) -> Origin:
    """The heads of a finished run: a circuit, or one class of it; retrieval heads; a class of ``heads``; the heads that
    an ablation tested. ``RUN:class`` names a class.

    Raises:
        UsageError: no such run, one of a finder that names no heads, a class it does not have, or no heads in it.
    """
    from interp.runs.result import open_run
    from interp.runs.store import RunFolderError

    folder, kind = parted(os.fspath(run))
    try:
        opened = open_run(folder)
    except RunFolderError as error:
        raise UsageError(f"from {os.fspath(run)}: {error}") from error
    finder, name = opened.findings.finder, Path(folder).resolve().name
    if finder not in KNOWN:
        raise UsageError(f"from {name}: a run of {finder} names no heads; runs of {', '.join(KNOWN)} do")
    found = KNOWN[finder](opened.findings)
    heads = chosen(found, kind, name)
    if not heads:
        raise UsageError(f"from {name}: this run of {finder} found no heads{f' of class {kind}' if kind else ''}")
    model, of_class = opened.provenance["model"], f" of class {kind}" if kind else ""
    return Origin(
        tuple(f"{layer}.{head}" for layer, head in heads),
        (int(model["layers"]), int(model["heads"])),
        f"{found.told}{of_class} of run {name} ({model['name']})",
    )


def parted(run: str) -> tuple[str, str]:
    """(folder, class or nothing) of ``RUN[:class]``; a folder whose name has a colon is taken as it is."""
    if Path(run).is_dir() or ":" not in run:
        return run, ""
    folder, _, kind = run.rpartition(":")
    return folder, kind.strip()


def chosen(found: Sets, kind: str, name: str) -> list[Head]:
    """The heads asked for, ascending.

    Raises:
        UsageError: a class that there is not, or none where one is needed.
    """
    listed = ", ".join(f"{one} ({len(heads)})" for one, heads in found.classes.items())
    if kind:
        if kind not in found.classes:
            raise UsageError(f"from {name}: no class {kind!r}; it has {listed or 'no classes'}")
        return sorted(found.classes[kind])
    if found.whole is None:
        raise UsageError(
            f"from {name}: name a class, as in {name}:{next(iter(found.classes), 'class')}; it has {listed}"
        )
    return sorted(found.whole)


def pairs(given: Any) -> list[Head]:
    """(layer, head) as ints."""
    return [(int(layer), int(head)) for layer, head in given]
