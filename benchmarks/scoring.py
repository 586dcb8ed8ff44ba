"""The Numba kernels beside NumPy, pandas and torch doing the same, on tables of ten million rows.

- bootstrap: 95 % intervals of the means of 10,000 columns over 1,000 prompts, 2,000 resamples. NumPy draws prompts and
  averages, resample by resample, and takes the quantiles (`intervals_plain`); pandas draws frames. Both are timed on a
  few resamples and scaled; their quantiles are not counted;
- copies: 200 instances x 20 steps x 2,500 heads. NumPy marks and counts whole arrays of an instance; pandas merges the
  top keys with the tokens and counts by group;
- spans: 32 prompts x 32 layers x 10,000 positions, 2 % flagged in runs. NumPy closes gaps and looks for edges in whole
  arrays; pandas numbers runs by group;
- ranks: 10,000 rank correlations over 1,000 pairs, beside pandas' ranks and NumPy's sums;
- sign flips: p values of 10,000 means over 1,000 prompts and of 10,000 over 64, 10,000 flips, beside the matrix product
  of signs and values in NumPy (`sign_flips_plain`);
- fold: one block of attention rows (9 heads x 96 rows x 4,096 keys), every statistic of `interp.tracing` that
  can share a pass, beside the same one by one in torch and in NumPy; and a single column sum as a trace takes it,
  beside torch, NumPy and the kernel (a trace leaves a single statistic to torch).

All ways of one thing take turns in one process; medians of ratios. Results are compared. The share of the measured
memory bandwidth counts each input byte once; what bounds a kernel instead is said beside it.

python benchmarks/scoring.py [--repeats 5] [--scale 1.0]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pandas as pd
import torch
from machine import seconds
from rows import Row, as_json, measured

from interp.scoring.asked import OFFSETS, Asked
from interp.scoring.block_fold import block_fold
from interp.scoring.bootstrap import intervals, intervals_plain
from interp.scoring.copies import copies_of_many, copies_plain
from interp.scoring.permutation import sign_flips, sign_flips_plain
from interp.scoring.ranks import rank_correlations
from interp.scoring.spans import spans

LEAST = 0.1
"""Seconds that a way is timed for, at least, in every turn."""
PAUSE = 0.3
"""Seconds before it: threads of another library wait for work on a core of their own for a while."""
Ways = dict[str, tuple[Callable[[], Any], float]]
"""Name -> (what to run, by how much to scale its time)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scoring.json")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"machine": machine.machine(), "bandwidth": bandwidth(), "rows": []}
    for name, (make, _) in CASES.items():
        ways, size = make(arguments.scale)
        result["rows"] += compared(name, ways, size, arguments.repeats, result["bandwidth"])
        print(json.dumps(result["rows"][-1]), file=sys.stderr, flush=True)
    result["suite"] = as_json(suite_rows(result["rows"]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def bandwidth() -> float:
    """Bytes a second that this machine reads: the best of several sums over 512 MiB, on all threads of torch."""
    data = torch.ones(1 << 27)
    return max(data.nbytes / seconds(data.sum) for _ in range(7))


def compared(name: str, ways: Ways, size: int, repeats: int, speed: float) -> list[dict[str, Any]]:
    """A record for each way but the first, with the first's time beside it."""
    (ours, (work, _)), *others = ways.items()
    work()  # compiled, or read from the cache
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, (run, scale) in ways.items():
            time.sleep(PAUSE)
            times[way].append(seconds(run, LEAST) * scale)
    taken = statistics.median(times[ours])
    rows = []
    for way, _ in others:
        ratios = [other / own for other, own in zip(times[way], times[ours], strict=True)]
        rows.append(
            {
                "what": name,
                "against": way,
                "ms": 1000 * taken,
                "ms_other": 1000 * statistics.median(times[way]),
                "ratios": ratios,
                "ratio": statistics.median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
                "of_bandwidth": size / taken / speed,
                "bound_by": CASES[name][1],
            }
        )
    return rows


def bootstrap_case(scale: float) -> tuple[Ways, int]:
    n, columns, resamples, few = 1000, int(10_000 * scale), 2000, 10
    values, ones = np.random.default_rng(0).normal(0, 1, (n, columns)), np.ones(n)
    frame, rng = pd.DataFrame(values), np.random.default_rng(0)
    same = intervals(values[:, :50], ones, 0, resamples=200)
    np.testing.assert_allclose(same, intervals_plain(values[:, :50], ones, 0, resamples=200), rtol=1e-6, atol=1e-9)

    def by_numpy() -> Any:
        return [values[rng.integers(0, n, n)].mean(0) for _ in range(few)]

    def by_pandas() -> Any:
        return [frame.sample(n, replace=True, random_state=i).mean() for i in range(few)]

    ways: Ways = {
        "interp": (lambda: intervals(values, ones, 0, resamples=resamples), 1.0),
        "NumPy": (by_numpy, resamples / few),
        "pandas": (by_pandas, resamples / few),
    }
    return ways, values.nbytes


def copies_case(scale: float) -> tuple[Ways, int]:
    rng, instances, heads, steps, length = np.random.default_rng(0), int(200 * scale), 2500, 20, 600
    contexts, spans_of = rng.integers(0, 30, (instances, length)), np.tile([300, 320], (instances, 1))
    keys = rng.integers(0, length, (instances, heads, steps)).astype(np.int32)
    keys[rng.random(keys.shape) < 0.3] = 310
    generated = rng.integers(0, 30, (instances, steps))
    index = pd.MultiIndex.from_product([range(instances), range(heads), range(steps)])
    frame = pd.DataFrame({"key": keys.ravel()}, index=index.set_names(["instance", "head", "step"])).reset_index()
    frame["token"] = np.broadcast_to(generated[:, None], keys.shape).ravel()
    tokens = pd.DataFrame(contexts).stack().rename("there").rename_axis(["instance", "key"]).reset_index()

    def by_numpy() -> Any:
        given = zip(keys, contexts, generated, spans_of, strict=True)
        return np.stack([copies_plain(key, text, ids, tuple(span)) for key, text, ids, span in given])

    def by_pandas() -> Any:
        inside = frame[(frame["key"] >= 300) & (frame["key"] < 320)].merge(tokens, on=["instance", "key"])
        copied = inside[inside["there"] == inside["token"]].groupby(["instance", "head"])["key"]
        return copied.agg(["nunique", "size"])

    def ours() -> Any:
        return copies_of_many(keys, contexts, generated, spans_of)

    assert np.array_equal(ours(), by_numpy()) and by_pandas()["size"].sum() == ours()[..., 1].sum()
    return {"interp": (ours, 1.0), "NumPy": (by_numpy, 1.0), "pandas": (by_pandas, 1.0)}, keys.nbytes


def spans_case(scale: float) -> tuple[Ways, int]:
    rng, shape = np.random.default_rng(0), (max(1, int(32 * scale)), 32, 10_000)
    flags = np.repeat(rng.random((shape[0], shape[1] // 4, shape[2])) < 0.02, 4, axis=1)
    flags &= rng.random(shape) < 0.9

    def by_numpy() -> np.ndarray:
        """Whole arrays: fill gaps of one layer, then edges along the layers."""
        wide = np.pad(flags.transpose(0, 2, 1), ((0, 0), (0, 0), (1, 1)))
        filled = wide.copy()
        filled[..., 1:-1] |= wide[..., :-2] & wide[..., 2:]
        change = np.diff(filled.astype(np.int8), axis=-1)
        prompt, position, start = np.nonzero(change == 1)
        stop = np.nonzero(change == -1)[2]
        before = np.cumsum(wide, axis=-1)
        return np.stack(
            [
                prompt,
                position,
                start,
                stop,
                stop - start - before[prompt, position, stop] + before[prompt, position, start],
            ],
            axis=1,
        )

    def by_pandas() -> Any:
        prompt, position, layer = np.nonzero(flags.transpose(0, 2, 1))
        frame = pd.DataFrame({"prompt": prompt, "position": position, "layer": layer})
        near = (frame["layer"].diff() <= 2) & (frame["position"].diff() == 0) & (frame["prompt"].diff() == 0)
        return frame.groupby((~near).cumsum()).agg(
            {"prompt": "first", "position": "first", "layer": ["min", "max", "size"]}
        )

    assert np.array_equal(spans(flags), by_numpy()) and len(by_pandas()) == len(spans(flags))
    ways: Ways = {"interp": (lambda: spans(flags), 1.0), "NumPy": (by_numpy, 1.0), "pandas": (by_pandas, 1.0)}
    return ways, flags.nbytes


def ranks_case(scale: float) -> tuple[Ways, int]:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(0, 1, (int(10_000 * scale), 1000)) for _ in range(2))

    def by_pandas() -> np.ndarray:
        one, other = (pd.DataFrame(values).rank(axis=1).to_numpy() - 500.5 for values in (x, y))
        return (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))

    np.testing.assert_allclose(rank_correlations(x[:20], y[:20]), by_pandas()[:20], atol=1e-9)
    return {"interp": (lambda: rank_correlations(x, y), 1.0), "pandas": (by_pandas, 1.0)}, x.nbytes + y.nbytes


def flips_case(n: int) -> Callable[[float], tuple[Ways, int]]:
    def case(scale: float) -> tuple[Ways, int]:
        values = np.random.default_rng(0).normal(0.1, 1, (max(1, int(10_000 * scale)), n))
        np.testing.assert_allclose(sign_flips(values[:40]), sign_flips_plain(values[:40]), atol=1e-12)
        few = max(1, len(values) // 10)  # whose product and sums fit into memory at once
        parts = np.array_split(values, len(values) // few)

        def by_numpy() -> Any:
            return [sign_flips_plain(part) for part in parts]

        return {"interp": (lambda: sign_flips(values), 1.0), "NumPy": (by_numpy, 1.0)}, values.nbytes

    return case


def block(scale: float) -> tuple[np.ndarray, torch.Tensor, Asked, int]:
    generator, n_rows, n_keys = torch.Generator().manual_seed(0), 96, max(256, int(4096 * scale))
    rows = torch.softmax(3 * torch.randn(1, 9, n_rows, n_keys, generator=generator), -1)
    ids = torch.randint(0, 500, (1, n_keys), generator=generator)
    sets = np.zeros((2, 1, n_keys), dtype=np.float32)
    sets[0, 0, 0] = sets[1, 0, 100:120] = 1
    weights = np.ones((1, n_rows), dtype=np.float32)
    asked = Asked(weights, True, True, True, sets, OFFSETS, ids.numpy())
    return rows.numpy(), rows, asked, n_keys - n_rows


def fold_case(scale: float) -> tuple[Ways, int]:
    from interp.tracing.blocks import PassFrame, RowBlock
    from interp.tracing.statistics import Entropy, MassOn, Offsets, Received, RowSum, TopKey

    rows, tensor, asked, start = block(scale)
    frame = PassFrame(1, 1, 0, rows.shape[-1], torch.from_numpy(asked.ids))
    stats = [Received(), Entropy(), RowSum(), TopKey(), MassOn({"0": [0], "1": range(100, 120)}), Offsets()]
    ids, keys = asked.ids, np.arange(rows.shape[-1])
    queries = start + np.arange(rows.shape[2])

    def by_torch() -> Any:
        for stat in stats:
            stat.accumulator(frame).fold(RowBlock(0, tensor, start, 0, frame))

    def by_numpy() -> Any:
        own = ids[0, queries][:, None]
        log = np.log(np.maximum(rows, np.float32(1e-38)))
        return (
            rows.sum(2),
            -(rows * log).sum(-1),
            rows.sum(-1),
            rows.argmax(-1),
            rows.max(-1),
            [rows @ one for one in asked.sets[:, 0]],
            rows[:, :, np.arange(len(queries)), queries],
            rows[:, :, np.arange(len(queries)), queries - 1],
            (rows * ((ids[0][None] == own) & (keys < queries[:, None]))).sum(-1),
            (rows * ((np.roll(ids[0], 1)[None] == own) & (keys >= 1) & (keys <= queries[:, None]))).sum(-1),
        )

    found, plain = block_fold(rows, start, 0, asked), by_numpy()
    for one, other in zip((found.received, found.entropy, found.row_sum), plain, strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(found.offsets["induction"], plain[-1], rtol=1e-5, atol=1e-6)
    ways: Ways = {
        "interp": (lambda: block_fold(rows, start, 0, asked), 1.0),
        "torch, one by one": (by_torch, 1.0),
        "NumPy, one by one": (by_numpy, 1.0),
    }
    return ways, rows.nbytes


def column_sum_case(scale: float) -> tuple[Ways, int]:
    from interp.tracing.blocks import PassFrame, RowBlock
    from interp.tracing.statistics import Received

    rows, tensor, asked, start = block(scale)
    alone, ones = Asked(received=asked.received), tensor.new_ones(9, 1, rows.shape[2])
    frame = PassFrame(1, 1, 0, rows.shape[-1], torch.from_numpy(asked.ids))
    received = Received().accumulator(frame)
    total, total_np = torch.zeros(9, 1, rows.shape[-1]), np.zeros((1, 9, rows.shape[-1]), np.float32)
    ways: Ways = {  # each into a running total, as block follows block
        "interp": (lambda: received.fold(RowBlock(0, tensor, start, 0, frame)), 1.0),
        "torch": (lambda: total.add_(tensor[0].sum(1, keepdim=True)), 1.0),
        "BLAS, a product with ones": (lambda: total.add_(torch.bmm(ones, tensor[0])), 1.0),
        "NumPy": (lambda: np.add(total_np, rows.sum(2), out=total_np), 1.0),
        "the kernel": (lambda: block_fold(rows, start, 0, alone), 1.0),
    }
    return ways, rows.nbytes


CASES: dict[str, tuple[Callable[[float], tuple[Ways, int]], str]] = {
    "bootstrap intervals": (bootstrap_case, "the matrix product of draws and values"),
    "copy matching": (copies_case, "comparing: a look into the context for every step"),
    "spans": (spans_case, "walking the flagged positions, which are scattered"),
    "rank correlations": (ranks_case, "sorting"),
    "sign flips, 64 prompts": (flips_case(64), "looking up tabled sums: 8 for each flip of a row"),
    "sign flips, 1,000 prompts": (flips_case(1000), "looking up tabled sums: 125 for each flip of a row"),
    "block, all statistics": (fold_case, "the logarithm of every weight, for the entropy"),
    "block, column sum": (
        column_sum_case,
        "the caches, where a new block lies: one addition for each weight",
    ),
}
"""Name -> (what makes its ways, what bounds ours)."""

SHORT = {
    "bootstrap intervals": "bootstrap",
    "copy matching": "copies",
    "block, all statistics": "fold",
    "block, column sum": "sum",
}
"""Names in the suite's table, where they differ."""


def suite_rows(rows: list[dict[str, Any]]) -> list[Row]:
    """For the suite's table."""
    found = []
    for row in rows:
        name = SHORT.get(row["what"], row["what"].replace(",", "").replace(" ", "_"))
        against = row["against"].split(",")[0].replace("the ", "").lower()
        note = f"{row['of_bandwidth']:.0%} of memory bandwidth; bound by {row['bound_by']}"
        texts = {"against": row["against"], "unit": "x as fast"}
        if name not in (*SHORT.values(), "spans") or against in ("kernel", "blas"):
            texts["what"] = row["what"]
        found.append(measured(f"scoring.{name}.{against}", row["ratios"], note=note, **texts))
    return found


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| what | interp, ms | against | ms | times faster (range) | of memory bandwidth | bound by |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for row in result["rows"]:
        spread = f"{row['ratio']:.1f} ({row['ratio_low']:.1f}-{row['ratio_high']:.1f})"
        lines.append(
            f"| {row['what']} | {row['ms']:.1f} | {row['against']} | {row['ms_other']:.0f} | {spread} "
            f"| {row['of_bandwidth']:.0%} | {row['bound_by']} |"
        )
    speed = f"Memory is read at {result['bandwidth'] / 2**30:.1f} GiB/s here. "
    return "\n".join([*lines, "", speed + machine.sentence(result["machine"]).removesuffix("; float32, batch 1")])


if __name__ == "__main__":
    main()
