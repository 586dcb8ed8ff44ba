"""Charts and sheets of what masking does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from interp.findings import Chart, Column, Series, Sheet
from interp.retrieval.closed_book import KINDS
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.effect import Effect, estimate
from interp.retrieval.sets import elsewhere

BANDS = "The bands are 95 % bootstrap intervals over {units}, those of random heads over their draws as well."


def series(name: str, values: Sequence[np.ndarray], seed: int, role: Any, draw: Any = "line") -> Series:
    """Means of values [unit, draw] by place on the x axis, with intervals."""
    found = [estimate(one, seed) for one in values]
    x = tuple(float(at) for at in range(len(found)))
    y, low, high = (tuple(getattr(one, end) for one in found) for end in ("mean", "low", "high"))
    return Series(name, x, y, low, high, draw=draw, role=role)


def by_k(one: Effect, seed: int) -> tuple[Series, Series]:
    """The two curves; both begin at the untouched model."""
    ks = (0, *one.ks)
    return (
        series("retrieval heads", [one.level("retrieval", k) for k in ks], seed, "found"),
        series("random heads", [one.level("random", k) for k in ks], seed, "control"),
    )


def charts(
    recall: Effect, exact: Effect | None, loss: Effect | None, questions: Mapping[str, Effect], config: RetrievalConfig
) -> list[Chart]:
    """Recall, exact answers and loss by K; questions at the judged K."""
    drawn = []
    for name, one, title, label, caption in (
        (
            "masking-recall",
            recall,
            "Recall of held-out needles by number of masked heads",
            "recall",
            "The paper's claim holds where the retrieval heads' curve falls and that of random heads does not. "
            + BANDS.format(units="needles"),
        ),
        (
            "masking-exact",
            exact,
            "Share of held-out needles answered word for word",
            "answered word for word",
            "As the chart of recall, by a stricter count. " + BANDS.format(units="needles"),
        ),
        (
            "masking-loss",
            loss,
            "Next-token loss on plain text by number of masked heads",
            "loss, nats",
            "Heads are masked at every position of the text. A curve that rises says that the model is harmed in "
            "general, and not in its copying alone. " + BANDS.format(units="texts"),
        ),
    ):
        if one is not None:
            names = ("0", *map(str, one.ks))
            drawn.append(Chart(name, title, "masked heads, K", label, by_k(one, config.seed), caption, x_names=names))
    if questions:
        kinds = [kind for kind in KINDS if kind in questions]
        k = questions[kinds[0]].ks[0]
        drawn.append(
            Chart(
                "masking-questions",
                f"Answers with {k} heads masked",
                "kind of question",
                "change of accuracy",
                tuple(
                    series(
                        f"{what} heads",
                        [questions[kind].changes(what, k) for kind in kinds],
                        config.seed,
                        role,
                        "points",
                    )
                    for what, role in (("retrieval", "found"), ("random", "control"))
                ),
                "Only questions that the untouched model answers right count, so the change is 0 or below. extraction: "
                "an invented fact that the passage states; closed-book: a known fact, no passage; known with passage: "
                "the same fact, its passage given. The claim is on the distance between the two points of a kind, what "
                "retrieval heads cost beyond random ones: it has to be larger at extraction than at closed-book. The "
                "bars are 95 % intervals over questions, those of random heads over their draws as well.",
                x_names=tuple(kinds),
                equal=0.0,
            )
        )
    return drawn


def sheets(
    recall: Effect,
    exact: Effect | None,
    loss: Effect | None,
    sets: Mapping[str, Any],
    proofs: Sequence[Mapping[str, Any]],
    told: Mapping[str, Any],
    config: RetrievalConfig,
) -> list[Sheet]:
    """The curves as numbers with the masked heads, the proof, and the questions."""
    out = [numbers(recall, exact, loss, sets, config)]
    if proofs:
        out.append(proof_sheet(proofs, config))
    if told["questions"]:
        out.append(question_sheet(told))
    return out


def numbers(
    recall: Effect, exact: Effect | None, loss: Effect | None, sets: Mapping[str, Any], config: RetrievalConfig
) -> Sheet:
    """One row a K."""
    rows = []
    for k in (0, *recall.ks):
        apart = estimate(recall.changes("difference", k), config.seed) if k else None
        low, high = (None, None) if apart is None else (apart.low, apart.high)
        shown = [f"{layer}.{head}" for layer, head in sets[str(k)]["retrieval"][:10]] if k else []
        measured = [mean_at(one, kind, k) for one in (recall, exact, loss) for kind in ("retrieval", "random")]
        more = f" and {k - 10} more" if k > 10 else ""
        rows.append((k, *measured, low, high, elsewhere(sets, k) if k else 0, ", ".join(shown) + more))
    return Sheet(
        "masking",
        "Masked heads: what each number of them does",
        (
            Column("k", "Int64", "K", "How many heads are masked."),
            Column("recall", "float64", "recall", "Mean recall of held-out needles, the K best heads masked."),
            Column("recall_random", "float64", "recall, random", "The same with K random heads, mean of the draws."),
            Column("exact", "float64", "word for word", "Share answered word for word, the K best heads masked."),
            Column("exact_random", "float64", "word for word, random", "The same with K random heads."),
            Column(
                "loss",
                "float64",
                "loss",
                "Next-token loss on plain text in nats, the K best heads masked at every position.",
            ),
            Column("loss_random", "float64", "loss, random", "The same with K random heads."),
            Column(
                "low", "float64", "difference, low", "Low end of the interval of recall less recall under random heads."
            ),
            Column("high", "float64", "difference, high", "High end of that interval."),
            Column(
                "elsewhere",
                "Int64",
                "random, other layers",
                "Random heads that stand in other layers than the best ones, for want of heads there.",
            ),
            Column("heads", "string", "heads", "The K best heads, best first."),
        ),
        tuple(rows),
        "K = 0 is the untouched model. Difference: recall less recall under random heads; its interval is the 95 % "
        "bootstrap interval over needles and draws.",
    )


def mean_at(one: Effect | None, kind: str, k: int) -> float | None:
    """Mean over units with K heads of a kind masked; None where it was not measured."""
    if one is None:
        return None
    return float(one.level(kind, k).mean())


def proof_sheet(proofs: Sequence[Mapping[str, Any]], config: RetrievalConfig) -> Sheet:
    """One row a held-out prompt."""
    what = {
        "zero": "what the output projection receives from masked heads is 0",
        "mean": "what the output projection receives from masked heads is their mean",
        "uniform": "rows of masked heads are even over all keys that are seen",
        "block": "masked heads have no mass on the needle",
    }[config.how]
    return Sheet(
        "mask-proof",
        "Proof that the masks took effect",
        (
            Column("prompt", "string", "prompt", "Held-out prompt."),
            Column("heads", "Int64", "heads", "Masked heads looked at: the largest K, best and random ones."),
            Column("layers", "Int64", "layers", "Layers the masks name."),
            Column("phases", "string", "phases", "When the masks have to show: prefill, decode, or both."),
            Column("failed", "string", "not seen in layers", "Layers where a mask did not show in each of these."),
            Column("nothing", "string", "nothing to block in layers", "Layers whose window leaves the needle out."),
            Column("worst", "float64", "worst", "Largest difference from what should be."),
        ),
        tuple(
            (
                one["prompt"],
                one["heads"],
                len(one["layers"]),
                ", ".join(one["phases"]),
                *(", ".join(map(str, one[name])) for name in ("failed", "nothing")),
                one["worst"],
            )
            for one in proofs
        ),
        f"In a run of its own under the masks of the largest K, layer by layer, the first tokens of the "
        f"answer included: {what}.",
    )


def question_sheet(told: Mapping[str, Any]) -> Sheet:
    """One row a question."""
    kinds = [arm["kind"] for arm in told["question_arms"]]
    at, others = kinds.index("retrieval"), [i for i, kind in enumerate(kinds) if kind == "random"]
    return Sheet(
        "questions",
        "Questions with and without a text that answers them",
        (
            Column("kind", "string", "kind", "extraction, closed-book, or known with passage."),
            Column("question", "string", "question", "What was asked."),
            Column("answer", "string", "answer", "What counts as right."),
            Column("said", "string", "untouched answer", "What the untouched model wrote."),
            Column(
                "right", "boolean", "right", "Whether the untouched model was right; only then the question counts."
            ),
            Column("masked", "boolean", "right, masked", "Whether it was right with the retrieval heads masked."),
            Column("random", "float64", "right, random", "Share of random sets under which it was right."),
        ),
        tuple(
            (
                one["kind"],
                one["question"],
                one["answer"],
                one["text"],
                one["correct"][0],
                one["correct"][at],
                float(np.mean([one["correct"][i] for i in others])),
            )
            for one in told["questions"]
        ),
        "extraction: an invented fact that the passage states; closed-book: a known fact, asked without a passage; "
        "known with passage: the same fact, its passage given. Masked are the heads of the K that is judged.",
    )
