"""What the page draws of retrieval heads, on made-up scores; and the strip of one event on a tiny model."""

from __future__ import annotations

import numpy as np
import pytest

import interp
from interp.retrieval import event, pictures
from interp.retrieval.config import RetrievalConfig
from interp.retrieval.finder import retrieval_heads
from interp.retrieval.instances import Instances
from interp.retrieval.measure import measured
from interp.tracing.statistics import Rows
from tests.needles import PLAIN, needle_prompts
from tests.retrieval_units import chance, facts, made, prompt, unit
from tests.tiny import tiny, tiny_tokenizer

CONFIG = RetrievalConfig(ks=(0, 1), draws=1)


def grid() -> Instances:
    cells = [(512, 0.0, 1.0), (512, 0.0, 0.5), (512, 1.0, 0.2), (1024, 0.0, 0.9)]
    prompts = [prompt(f"p{i}", "ab"[i % 2], length, depth) for i, (length, depth, _) in enumerate(cells)]
    return Instances.of(prompts, [unit(chance(1)[0], recall) for *_, recall in cells], CONFIG)


def test_recall_by_length_and_depth() -> None:
    drawn = pictures.recall_map(grid())
    assert (drawn.row_labels, drawn.column_labels) == (("512", "1,024"), ("0", "1"))
    np.testing.assert_allclose(drawn.values, [[0.75, 0.2], [0.9, np.nan]])
    sheet = pictures.recall_sheet(grid())
    assert sheet.rows[0] == ("bare", "512", "0", 2, 1, 0.75, 0.5)
    assert sum(row[3] for row in sheet.rows) == 4


def test_own_material_is_put_into_bins() -> None:
    prompts = [prompt("p", "a", None, None)]
    drawn = pictures.recall_map(Instances.of(prompts, [unit(chance(1)[0])], CONFIG))
    assert (drawn.row_labels, drawn.column_labels) == (("up to 64",), ("0.5",))  # depth 0.4 to 0.6


def test_charts_and_maps_show_the_scores() -> None:
    findings = retrieval_heads.find(*made(list("abcdefgh") * 2, chance(16)), CONFIG, facts())
    by_name = {chart.name: chart for chart in findings.charts}
    assert {"ranking", "halves", "activity"} <= set(by_name)
    ranking = by_name["ranking"].series[0]
    assert ranking.y == tuple(findings.table["score"]) and ranking.labels[0] == "0.1"
    assert ranking.low == tuple(findings.table["score_low"])
    assert by_name["activity"].x_names == ("0.1", "2.3")
    halves = by_name["halves"].series[0]
    assert set(halves.labels) == {"0.1", "2.3", "1.0"}
    assert "9 heads that copy on neither side" in by_name["halves"].caption
    assert all(chart.caption for chart in findings.charts)
    score = findings.heatmaps[0]
    assert score.name == "score" and score.kind == "layer-head"
    for row in findings.table.itertuples():
        assert score.values[row.layer, row.head] == row.score
    assert findings.arrays["score.instances"].shape == (16, 3, 4)
    instances = next(sheet for sheet in findings.sheets if sheet.name == "instances")
    assert len(instances.rows) == 16 and {row[7] for row in instances.rows} == {"choosing", "judging"}


def test_the_instance_shown_is_short_and_answered() -> None:
    instances = grid()
    assert event.shown(instances, [(0, 1)] * 9) == {"prompt": 0, "heads": [[0, 1]] * 4, "generated": [1, 2]}
    assert event.shown(instances, []) is None
    instances.units[0].arrays["events"][0, 1] = 0
    again = event.shown(instances, [(0, 1)])
    assert again is not None and again["prompt"] == 3  # the other that counts, where the best head copied
    instances.units[3].arrays["events"][0, 1] = 0
    assert event.shown(instances, [(0, 1)]) is None


def test_windows_of_a_long_prompt() -> None:
    short = prompt("short", "a")
    assert event.windows(short, 2) == [(0, 66)]
    long = prompt("long", "a")
    object.__setattr__(long, "ids", tuple(range(3000)))
    long.extra["needle"] |= {"sentence": [1000, 1020], "span": [1005, 1015], "tail": 2980}
    assert event.windows(long, 10) == [(0, 4), (968, 1052), (2948, 3010)]
    long.extra["needle"] |= {"sentence": [10, 30], "span": [15, 25]}
    assert event.windows(long, 10) == [(0, 62), (2948, 3010)]


@pytest.mark.parametrize("whole", [True, False])
def test_the_event_holds_the_rows_the_heads_have(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = interp.load(tiny("llama"), tokenizer=tiny_tokenizer(128))
    asked = needle_prompts(model)[0]
    generated = measured(model, asked, PLAIN).facts["generated"]
    if not whole:
        monkeypatch.setattr(event, "WHOLE", 20)
        monkeypatch.setattr(event, "AROUND", 2)
        asked.extra["needle"] |= {"sentence": [20, 30], "span": [22, 28]}
    heads = [(1, 2), (0, 3)]
    unit = event.event(model, asked, {"heads": [list(head) for head in heads], "generated": generated})
    patterns, told = unit.arrays["event"], unit.facts["event"]
    ids = [*asked.ids, *generated]
    parts = event.windows(asked, len(generated))
    with interp.trace(model, stats=[Rows(heads=heads)]) as t:
        t.run(ids)
        rows = {head: t.stats["rows"][head][0].numpy() for head in heads}
    cells = [at for start, stop in parts for at in (*range(start, stop), None)][:-1]
    assert len(told["cells"]) == len(cells) == patterns.shape[1] == patterns.shape[2]
    assert (len(parts) == 1) == told["whole"] == whole
    for h, head in enumerate(heads):
        for i, query in enumerate(cells):
            if query is None:
                assert not patterns[h, i].any() and "token" in told["cells"][i]
                continue
            assert patterns[h, i].sum() == pytest.approx(1, abs=1e-5)
            for j, key in enumerate(cells):
                if key is not None:
                    assert patterns[h, i, j] == pytest.approx(rows[head][query, key], abs=1e-6)
    strip = event.strip(0, "p", heads, unit)
    assert list(strip.patterns) == ["1.2", "0.3"] and strip.tokens[-1] == model.decode_tokens(generated)[-1]
    answering = [i for i, at in enumerate(cells) if at is not None and len(asked) - 1 <= at < len(ids) - 1]
    np.testing.assert_allclose(strip.weight, patterns[:, answering].mean((0, 1)), atol=1e-6)
    assert {strip.marks[i] for i, at in enumerate(cells) if at is not None and at >= len(asked)} == {"answer written"}
    spans = asked.extra["needle"]["span"]
    marked = [cells[i] for i, kind in strip.marks.items() if kind == "answer in the needle"]
    assert marked == list(range(*spans))
