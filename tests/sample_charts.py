"""Charts and further tables made up for the report's tests, tame or hostile."""

from __future__ import annotations

import numpy as np

from interp.findings import Chart, Column, Edge, Graph, Heatmap, Node, Series, Sheet


def charts(rng: np.random.Generator, evil: tuple[str, ...] = ()) -> list[Chart]:
    """Every way of drawing: bands with a gap, points with bars, bars with names, both logarithmic axes, marks."""
    said = evil[0] if evil else ""
    norms = tuple(float(x) for x in np.geomspace(10, 30_000, 9))
    dose = tuple(float(y) for y in 0.4 / (1 + np.exp(-np.log(np.array(norms) / 2000))))
    layers = tuple(float(layer) for layer in range(30))
    names = evil or ("head 9.1", "head 11.4", "MLP 10", "attention 10", "head 2.2", "rest")
    shares = tuple(float(v) for v in rng.dirichlet(np.ones(len(names))))
    cloud = rng.normal(0, 1, (2, 40))
    return [
        Chart(
            f"dose{said}",
            f"Sink score against the norm written{said}",
            "l2 norm of the MLP output" + said,
            "attention received" + said,
            (
                Series(
                    f"secondary sinks{said}",
                    norms,
                    (*dose[:4], None, *dose[5:]),
                    tuple(0.8 * y for y in dose),
                    tuple(1.2 * y for y in dose),
                    labels=tuple(evil[i % len(evil)] if evil else f"step {i}" for i in range(9)),
                ),
                Series(
                    "same tokens elsewhere", norms, tuple(0.02 for _ in norms), tuple(0.0 for _ in norms), (0.03,) * 9
                ),
            ),
            "The line is the mean over prompts, the band its interval." + said,
            ((2000.0, f"measured{said}"), (2100.0, "median")),
            log_x=True,
            equal=0.03,
        ),
        Chart(
            "modules",
            "Share of the new state by module",
            "module",
            "share",
            (
                Series(
                    "share",
                    tuple(float(i) for i in range(len(names))),
                    shares,
                    tuple(s - 0.02 for s in shares),
                    tuple(s + 0.02 for s in shares),
                    draw="bars",
                ),
            ),
            x_names=names,
        ),
        Chart(
            "weakening",
            "The anchor by layer",
            "layer",
            "l2 norm",
            tuple(
                Series(name, layers, tuple(float(v) for v in scale * np.exp(rng.normal(0, 0.3, 30))))
                for name, scale in (("key", 40.0), ("value", 2.0), ("state", 20_000.0))
            ),
            marks=tuple((float(x), f"{x} secondaries start") for x in (11, 12, 13, 20)),
            log_y=True,
        ),
        Chart(
            "cloud",
            "Norm and lifetime",
            "log norm",
            "lifetime",
            (Series("sinks", tuple(map(float, cloud[0])), tuple(map(float, cloud[1])), draw="points"),),
            equal=0.0,
        ),
    ]


def sheets(rng: np.random.Generator, evil: tuple[str, ...] = ()) -> list[Sheet]:
    """A short table of all kinds of values, and a long one."""
    said = evil[0] if evil else ""
    mixed = (
        Column("expert" + said, "string", "expert" + said, "Which expert fired." + said),
        Column("token", "string", "token", "The token as text."),
        Column("cosine", "float64", "cosine", "Cosine with the anchor's own MLP output."),
        Column("effective", "boolean", "effective", "Whether the cosine exceeds 0.98."),
        Column("layer", "Int64", "layer", "Block, 0-based."),
    )
    rows = tuple(
        (evil[i % len(evil)] if evil else f"expert {i}", evil[-1 - i % len(evil)] if evil else " the", i / 7, i > 3, i)
        for i in range(8)
    )
    counts = (
        Column("prompt", "Int64", "prompt", "Index of the prompt."),
        Column("loss", "float64", "loss", "Next-token loss, nats."),
    )
    many = tuple((i, float(v)) for i, v in enumerate(rng.normal(3, 0.3, 120)))
    return [
        Sheet(
            f"experts{said}",
            f"MLP outputs by expert{said}",
            mixed,
            (*rows, (None, None, None, None, None)),
            "Read by row." + said,
        ),
        Sheet("loss", "Loss by prompt", counts, many),
    ]


def overall(rng: np.random.Generator, evil: tuple[str, ...] = ()) -> list[Heatmap]:
    """Maps that belong to no prompt: a sparse count, and one with named columns."""
    counts = np.full((30, 31), np.nan)
    counts[[2, 2, 11], [6, 7, 18]] = (2, 31, 12)
    names = evil or ("query", "key", "value", "gate", "up")
    cosines = rng.uniform(-1, 1, (30, len(names)))
    title = "Cosine with the anchor" + (evil[0] if evil else "")
    return [
        Heatmap("counts", "Sinks by start layer and lifetime", counts, "start layer", "lifetime", "sinks"),
        Heatmap("sites", title, cosines, "layer", "site", "cosine", "other", None, names, True),
    ]


def graphs(rng: np.random.Generator, evil: tuple[str, ...] = (), heads: int = 38, edges: int = 80) -> list[Graph]:
    """A circuit of many heads in a model of 30 layers x 9 heads, with arrows of both signs between layers."""
    said = evil[0] if evil else ""
    kinds = ("ends", "mover", "negative mover", "inhibition", "induction", "previous token" + said)
    found = sorted(divmod(int(at), 9) for at in rng.choice(30 * 9, heads, replace=False))
    nodes = [
        Node(
            f"{layer}.{head}",
            layer,
            kinds[1 + i % 5],
            evil[i % len(evil)] if evil else f"{layer}.{head}",
            f"looks at S2{said}",
        )
        for i, (layer, head) in enumerate(found)
    ]
    nodes.append(Node("logits", 30, "ends", "logits"))
    made: dict[tuple[str, str], Edge] = {}
    while len(made) < edges:
        low, high = sorted(rng.choice(len(nodes), 2, replace=False))
        source, target = nodes[low], nodes[high]
        if source.layer < target.layer and high - low < 14:
            weight = float(rng.normal(0.01, 0.03))
            made[source.name, target.name] = Edge(source.name, target.name, weight, f"q at end{said}")
    caption = "Stages, backwards from the logits." + said
    return [Graph("circuit", f"The circuit{said}", tuple(nodes), tuple(made.values()), kinds, "effect" + said, caption)]
