"""The score of every head as a table, and the shares of heads that retrieve, sometimes copy, and never do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interp.findings import Column
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.instances import Instances
from interp.retrieval.resample import intervals

Head = tuple[int, int]

COLUMNS = (
    Column("layer", "Int64", "layer", "Layer, counted from 0."),
    Column("head", "Int64", "head", "Query head in its layer, counted from 0."),
    Column(
        "score",
        "float64",
        "score",
        "Retrieval score of Wu et al. 2024: share of the answer's tokens that the head copied (its top key holds the "
        "very token that is written, inside the answer span), mean over the kept instances; 0 to 1.",
    ),
    Column("score_low", "float64", "low", "Low end of the score's 95 % bootstrap interval over needles."),
    Column("score_high", "float64", "high", "High end of the score's 95 % bootstrap interval over needles."),
    Column(
        "score_released",
        "float64",
        "score as released",
        "The same as the paper's released code counts it: every copying step / tokens of the span, so that repeats "
        "count and it can pass 1.",
    ),
    Column("active", "float64", "active", "Share of the kept instances in which the head copied at least one token."),
    Column(
        "instances", "Int64", "instances", "Kept instances: those whose answer came back (recall above min_recall)."
    ),
    Column("copies", "Int64", "copies", "Copying steps of this head, summed over the kept instances."),
    Column(
        "mass_in_needle",
        "float64",
        "mass in needle",
        "Attention on the answer span among the head's largest weights (as many as the span has tokens), mean over the "
        "steps of the answer and over the kept instances (HeadKV, arXiv 2410.19258); 0 to 1.",
    ),
    Column(
        "qr_score",
        "float64",
        "QR score",
        "Attention from the question to the needle's sentence less the same from the question N/A, mean over the "
        "question's tokens and over the kept instances (QRHead, arXiv 2506.09944).",
    ),
    Column(
        "induction",
        "float64",
        "induction",
        "Attention to the tokens behind all earlier copies of the query's token, on random tokens given twice, mean "
        "over the second copy's queries and over all instances; missing with random_tokens=0.",
    ),
    Column(
        "class",
        "string",
        "class",
        "retrieval: score at or above the threshold; weak: copies sometimes; none: never copies; missing where no "
        "instance was kept.",
    ),
)


@dataclass(frozen=True)
class Scores:
    """Every head's figures, [layer * head] each; NaN where nothing was measured.

    `per_instance` holds the paper's score of the kept instances, [instance, layer * head], and `which` their needles.
    """

    score: np.ndarray
    low: np.ndarray
    high: np.ndarray
    released: np.ndarray
    active: np.ndarray
    copies: np.ndarray
    mass_in_needle: np.ndarray
    qr_score: np.ndarray
    induction: np.ndarray
    per_instance: np.ndarray
    which: np.ndarray
    shape: tuple[int, int]

    @property
    def kept(self) -> int:
        """Number of kept instances."""
        return len(self.per_instance)

    def retrieval(self, threshold: float) -> np.ndarray:
        """[layer * head] whether the score reaches the threshold; no head does where nothing was kept."""
        return np.nan_to_num(self.score, nan=-1.0) >= threshold if self.kept else np.zeros(self.score.shape, dtype=bool)

    def heads(self, threshold: float) -> list[Head]:
        """The retrieval heads, best first."""
        return self._ordered(self.retrieval(threshold))

    def copying(self) -> list[Head]:
        """The heads that copied anything at all, best first."""
        return self._ordered(np.nan_to_num(self.score, nan=-1.0) > 0)

    def _ordered(self, which: np.ndarray) -> list[Head]:
        order = np.argsort(-np.nan_to_num(self.score, nan=-1.0), kind="stable")
        return [self.pair(at) for at in order if which[at]]

    def pair(self, at: Any) -> Head:
        """(layer, head) of a flat index."""
        return int(at) // self.shape[1], int(at) % self.shape[1]

    def by_head(self, name: str) -> np.ndarray:
        """[layer, head] one of the figures."""
        return getattr(self, name).reshape(self.shape)


def scores(instances: Instances, config: RetrievalConfig) -> Scores:
    """Means over the kept instances, with their intervals over needles."""
    kept = instances.kept
    values = instances.array("copies", kept)
    which = instances.which[kept]
    size = values.shape[1]
    missing = np.full(size, np.nan)

    def mean(name: str, these: np.ndarray) -> np.ndarray:
        found = instances.array(name, these) if name in instances.units[0].arrays else np.empty((0, size))
        return found.mean(axis=0) if len(found) else missing

    low, high = intervals(values, which, config.seed) if len(values) else (missing, missing)
    return Scores(
        score=values.mean(axis=0) if len(values) else missing,
        low=low,
        high=high,
        released=mean("copies_released", kept),
        active=(values > 0).mean(axis=0) if len(values) else missing,
        copies=instances.array("events", kept).sum(axis=0),
        mass_in_needle=mean("mass_in_needle", kept),
        qr_score=mean("qr_score", kept),
        induction=mean("induction", np.ones(len(instances), dtype=bool)),
        per_instance=values,
        which=which,
        shape=instances.shape,
    )


def table(found: Scores, config: RetrievalConfig) -> pd.DataFrame:
    """One row a head, best first (then by layer and head)."""
    layers, heads = np.divmod(np.arange(len(found.score)), found.shape[1])
    retrieval = found.retrieval(config.threshold)
    kind = np.where(retrieval, "retrieval", np.where(found.score > 0, "weak", "none"))
    frame = pd.DataFrame(
        {
            "layer": layers,
            "head": heads,
            "score": found.score,
            "score_low": found.low,
            "score_high": found.high,
            "score_released": found.released,
            "active": found.active,
            "instances": found.kept,
            "copies": found.copies,
            "mass_in_needle": found.mass_in_needle,
            "qr_score": found.qr_score,
            "induction": found.induction,
            "class": kind if found.kept else None,
        }
    )
    frame = frame.sort_values("score", ascending=False, kind="stable", na_position="last").reset_index(drop=True)
    return frame.astype({column.name: column.dtype for column in COLUMNS})[[column.name for column in COLUMNS]]


def ranked(instances: Instances, choosing: frozenset[str]) -> list[Head]:
    """All heads, best first, by their score over the kept instances of the choosing needles alone; equal ones (most
    heads never copy) by their mass in the needle there. Empty without such an instance."""
    these = instances.kept & instances.of_needles(choosing)
    if not these.any():
        return []
    score = instances.array("copies", these).mean(axis=0)
    mass = instances.array("mass_in_needle", these).mean(axis=0)
    order = np.lexsort((-mass, -score))
    return [(int(at) // instances.shape[1], int(at) % instances.shape[1]) for at in order]


def sparsity(found: Scores, config: RetrievalConfig) -> dict[str, Any]:
    """How many heads retrieve, copy sometimes, never copy; None where nothing was kept."""
    retrieval = found.retrieval(config.threshold)
    counts: dict[str, Any] = {"heads": len(retrieval), "threshold": config.threshold}
    if not found.kept:
        return {**counts, "retrieval": None, "weak": None, "zero": None}
    copying = found.score > 0
    return {
        **counts,
        "retrieval": int(retrieval.sum()),
        "weak": int((copying & ~retrieval).sum()),
        "zero": int((~copying).sum()),
    }


def label(head: Head) -> str:
    """``layer.head``."""
    return f"{head[0]}.{head[1]}"
