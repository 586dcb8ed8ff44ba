"""Published retrieval heads of a model (``data/references/wu2024.json``) beside those measured here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.finders.base import ModelFacts
from interp.finders.norm_law_correlation import spearman
from interp.findings import Column, Sheet
from interp.resources import data_path
from interp.retrieval.stability import TOP
from interp.retrieval.table import Head, Scores, label

COLUMNS = (
    Column("head", "string", "head", "layer.head, both counted from 0."),
    Column("published", "float64", "published score", "Mean over the paper's successful instances, as released."),
    Column("released", "float64", "score as released", "The same score measured here."),
    Column("score", "float64", "score", "The paper's score measured here: a span token counts once."),
    Column("published_rank", "Int64", "published rank", "1 = best of the published list."),
    Column("rank", "Int64", "rank here", "1 = best of all heads here, by the score as released."),
)


@dataclass(frozen=True)
class Published:
    """What the released results say of one model.

    Attributes:
        hub_id: the model.
        instances, heads, retrieval, zero: instances that counted; heads in all, at 0.1 or above, and at 0.
        top: (head, score), best first.
    """

    hub_id: str
    instances: int
    heads: int
    retrieval: int
    zero: int
    top: tuple[tuple[Head, float], ...]


def reference() -> dict[str, Any]:
    """The published figures with their citation."""
    return json.loads(data_path("references", "wu2024.json").read_text(encoding="utf-8"))


def published(facts: ModelFacts) -> Published | None:
    """The published heads of a model, known by its hub id; None where there are none, or its heads are not as many."""
    models = {name.lower(): (name, told) for name, told in reference()["models"].items()}
    if facts.hub_id is None or facts.hub_id.lower() not in models:
        return None
    name, told = models[facts.hub_id.lower()]
    top = tuple(((int(layer), int(head)), float(score)) for layer, head, score in told["top"])
    fits = all(layer < facts.n_layers and head < facts.n_heads for (layer, head), _ in top)
    if told["heads"] != facts.n_layers * facts.n_heads or not fits:
        return None
    return Published(name, told["instances"], told["heads"], told["at_least_0_1"], told["zero"], top)


def compared(known: Published, found: Scores) -> dict[str, Any]:
    """JSON-able: ``hub_id``; ``retrieval`` and ``zero``, the published counts of heads; ``listed``, heads in the
    published list; ``rank_correlation`` over these between the published score and the same one here (None where all
    are equal); and ``overlap``, the share of the best ``top`` published ones among as many best ones here."""
    at = np.array([layer * found.shape[1] + head for (layer, head), _ in known.top])
    theirs = np.array([score for _, score in known.top])
    size = min(TOP, len(at))
    best = set(np.argsort(-found.released, kind="stable")[:size].tolist())
    return {
        "hub_id": known.hub_id,
        "instances": known.instances,
        "retrieval": known.retrieval,
        "zero": known.zero,
        "listed": len(at),
        "rank_correlation": spearman(theirs, found.released[at]),
        "top": size,
        "overlap": len(best & set(at[:size].tolist())) / size,
    }


def sheet(known: Published, found: Scores) -> Sheet:
    """The published list, head by head, beside what was measured."""
    order = np.argsort(-found.released, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    rows = []
    for place, ((layer, head), score) in enumerate(known.top, start=1):
        at = layer * found.shape[1] + head
        rows.append(
            (label((layer, head)), score, float(found.released[at]), float(found.score[at]), place, int(rank[at]))
        )
    return Sheet(
        "published",
        f"Published heads of {known.hub_id} beside these",
        COLUMNS,
        tuple(rows),
        f"The best {len(rows)} heads in the released results of Wu et al. 2024 ({known.instances} instances that "
        "counted), in their order. Their needles, haystacks and lengths are others, so scores need not be equal.",
    )
