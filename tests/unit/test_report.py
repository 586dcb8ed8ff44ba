"""The report without a browser: escaping, packing, reduction (Chromium: tests/browser)."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html.parser
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.findings import TokenStrip
from interp.report import build, payload, sections, text, tokens
from interp.report.pack import Pack, pool_columns, pool_pattern
from probes.base import Prompt
from tests import sample_findings


def block(pack: Pack) -> bytes:
    return gzip.decompress(base64.b64decode(pack.text()))


def element(page: str, name: str) -> str:
    match = re.search(rf'<script type="[a-z/]+" id="{name}">([^<]*)</script>', page)
    assert match is not None
    return match.group(1)


@pytest.fixture(scope="module")
def sample() -> tuple[Any, Any, Any]:
    return sample_findings.sample()


# Text


@given(st.text(st.characters(codec=None)))
def test_any_text_survives_as_json_in_html(value: str) -> None:
    held = text.json_in_html({"key": value})
    assert not set("<>&\u2028\u2029") & set(held)
    held.encode("utf-8")
    assert json.loads(held)["key"] == text.clean(value)


@given(st.text(st.characters(codec=None)))
def test_html_and_plotly_text_hold_no_markup(value: str) -> None:
    for safe in (text.h(value), text.plotly_text(value)):
        safe.encode("utf-8")
        assert "<" not in safe and ">" not in safe
    assert '"' not in text.h(value) and "'" not in text.h(value)
    assert "%{" not in text.plotly_text(value) and "$" not in text.plotly_text(value)


def test_what_cannot_be_seen_is_shown() -> None:
    assert text.label(" the\n") == "␣the⏎"
    assert text.label("") == "∅"
    assert text.shown("a\u202eb\u2028c\x00\ud800") == "a\\u202eb\\u2028c\\u0000\ufffd"
    assert text.shown("👩\u200d💻") == "👩\u200d💻"


def test_jsonable_knows_numpy_pandas_and_missing_values() -> None:
    value = {
        "a": np.float32(1.5),
        "b": np.arange(2),
        "c": pd.NA,
        "d": float("nan"),
        "e": (1, None, True),
        "f": pd.NaT,
        "g": np.bool_(True),
    }
    assert text.jsonable(value) == {
        "a": 1.5,
        "b": [0, 1],
        "c": None,
        "d": None,
        "e": [1, None, True],
        "f": None,
        "g": True,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.98612, "0.986"),
        (0.02, "0.0200"),
        (24955.2, "24,955"),
        (1.5e-7, "1.50e-07"),
        (12, "12"),
        (None, "n/a"),
        (float("nan"), "n/a"),
        (0.0, "0"),
    ],
)
def test_numbers_for_people(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


# Arrays


def test_float16_keeps_three_digits_over_nine_orders_of_magnitude() -> None:
    values = np.array([[3.1e-3, 25_000.0, -17.25, 0.0, np.nan, 2.5e5]])
    pack = Pack()
    pack.add(np.arange(3), "u1")
    ref = pack.add(values, "f2")
    assert ref["at"] % 4 == 0
    stored = (
        np.frombuffer(block(pack), np.uint8, 12, ref["at"]).reshape(2, 6).T.copy().view("<f2").ravel().astype(float)
        * ref["scale"]
    )
    np.testing.assert_allclose(stored[np.isfinite(values[0])], values[0][np.isfinite(values[0])], rtol=1e-3)
    assert np.isnan(stored[4])


def test_pooling_columns_keeps_what_stands_out() -> None:
    values = np.full((2, 1000), 0.01)
    values[1, 777] = -0.9
    values[0, :2] = np.nan
    pooled, by = pool_columns(values, 500)
    assert (pooled.shape, by) == ((2, 500), 2)
    assert pooled[1, 388] == -0.9
    assert np.isnan(pooled[0, 0]) and pooled[0, 1] == 0.01
    assert pool_columns(values, 1000)[1] == 1


def test_pooling_a_pattern_keeps_its_row_sums() -> None:
    pattern = np.random.default_rng(0).dirichlet(np.ones(10), size=7)
    pooled = pool_pattern(pattern, 3)
    assert pooled.shape == (3, 4)
    np.testing.assert_allclose(pooled.sum(axis=1), 1.0)
    np.testing.assert_allclose(pooled[2, 3], pattern[6, 9])


@pytest.mark.parametrize("causal", [True, False])
def test_patterns_as_bytes(causal: bool) -> None:
    pattern = np.random.default_rng(1).dirichlet(np.full(40, 0.2), size=40)
    if causal:
        pattern = np.tril(pattern)
    pack = Pack()
    ref = tokens.encode_pattern(pack, pattern)
    assert ref["causal"] is causal
    coded = np.frombuffer(block(pack), np.uint8, 820 if causal else 1600)
    decoded = np.zeros((40, 40))
    decoded[np.tril(np.ones((40, 40), bool)) if causal else np.ones((40, 40), bool)] = ref["top"] * (coded / 255.0) ** 2
    np.testing.assert_allclose(decoded, pattern, atol=0.004 * ref["top"])


# The page


def test_the_page_is_one_offline_file_within_its_limit(sample: Any) -> None:
    page = build.build_report(*sample)
    assert 1_500_000 < len(page.encode()) < build.MAX_BYTES

    class Loads(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[tuple[str, str | None]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [
                (name, value) for name, value in attrs if name in ("src", "srcset", "href", "action", "data")
            ]

    reader = Loads()
    reader.feed(page)
    assert {value[:1] if value else "" for name, value in reader.found if name != "src"} == {
        "#",
        "d",
    }  # anchors and the empty icon
    assert not [value for name, value in reader.found if name == "src"]
    assert "url(" not in build._asset("page.css") and "@import" not in build._asset("page.css")
    assert page.count("plotly.js v") == 0  # only the compressed copy
    assert gzip.decompress(base64.b64decode(element(page, "plotly"))).count(b"* plotly.js v") == 1


def test_the_page_is_the_same_every_time(sample: Any) -> None:
    assert build.build_report(*sample) == build.build_report(*sample)


def test_scripts_set_no_markup_from_strings() -> None:
    code = build._script()
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|setTimeout\(\s*[\"'`]", code
    )
    assert "</script" not in code.lower() and "<!--" not in code


def test_data_in_the_page_is_the_findings(sample: Any) -> None:
    findings, provenance, prompts = sample
    data = json.loads(element(build.build_report(findings, provenance, prompts), "data"))
    table = {
        column["name"]: values for column, values in zip(data["table"]["columns"], data["table"]["data"], strict=True)
    }
    assert table["position"] == findings.table["position"].tolist()
    assert table["token"] == findings.table["token"].tolist()
    assert [level for level in table["level"] if level is None] == [None] * int(findings.table["level"].isna().sum())
    assert data["provenance"] == text.jsonable(provenance)
    assert data["prompts"] == [prompt.name for prompt in prompts]
    assert {m["group"] for m in data["heatmaps"]} == {
        "anchor",
        "secondary",
        "received",
        "resid_norm",
        "anchor_cosine",
        "counts",
        "sites",
    }
    assert (
        len(data["texts"]) == len(prompts) + 1
    )  # named columns, and each prompt's tokens once, though maps and strips all name them


def test_layer_head_scores_go_in_whole_and_exact(sample: Any) -> None:
    findings, _, prompts = sample
    data, pack, _ = payload.payload(findings, prompts, share=0.0)  # even when everything else must go
    assert [m["kind"] for m in data["heatmaps"]] == ["layer-head", "layer-head"]
    for heatmap, stored in zip(findings.heatmaps, data["heatmaps"], strict=False):
        values = np.frombuffer(block(pack), "<f4", 270, stored["values"]["at"]).reshape(30, 9)
        np.testing.assert_array_equal(values, heatmap.values.astype(np.float32))


def test_what_is_reduced_is_said() -> None:
    findings, _, prompts = sample_findings.sample(count=2, length=2100)
    _, _, notes = payload.payload(findings, prompts)
    said = " ".join(notes)
    assert "3 neighbouring positions are drawn as one cell" in said
    assert "pooled over blocks of 5 tokens" in said
    assert "2,048 of 2,100 tokens are shown" in said
    dropped = payload.payload(findings, prompts, share=0.05)[2]
    assert any("did not fit and are left out" in note for note in dropped)
    page = build.build_report(findings, {}, prompts)
    assert "pooled over blocks of 5 tokens" in page


def test_a_page_too_large_is_reduced_until_it_fits() -> None:
    rng = np.random.default_rng(0)
    findings, provenance, prompts = sample_findings.sample(count=1, length=512)
    noise = [
        dataclasses.replace(findings.heatmaps[2], name=f"noise{i}", values=rng.normal(size=(48, 1024)) ** 3)
        for i in range(24)
    ]
    strips = [
        TokenStrip(
            0,
            "noise",
            prompts[0].tokens,
            np.ones(512),
            {},
            {f"{layer}.0": rng.uniform(size=(512, 512)) for layer in range(12)},
        )
    ]
    page = build.build_report(
        dataclasses.replace(findings, heatmaps=findings.heatmaps[:2] + noise, strips=strips), provenance, prompts
    )
    assert len(page.encode()) <= build.MAX_BYTES
    assert "left out" in page and "pooled over blocks" in page


def test_many_long_prompts_fit_and_what_is_cut_is_said() -> None:
    findings, provenance, _ = sample_findings.empty()
    prompts = [Prompt(f"text {i}", f"{i} " + "long words " * 550, (1, 2), ("a", "b")) for i in range(1000)]
    page = build.build_report(findings, provenance, prompts)
    assert len(page.encode()) <= build.MAX_BYTES
    assert "Prompts: the first 1,000 characters of 1,000 longer texts are shown; all of them are in run.json." in page
    assert page.count("<pre dir=") == 1000
    assert build.build_report(findings, provenance, prompts[:3]).count("longer texts") == 0


def test_short_prompts_leave_their_share_of_characters_to_long_ones() -> None:
    prompts = [Prompt("p", "x" * length, (1, 2), ("a", "b")) for length in (10, 10, 500, 30_000)]
    assert sections.prompt_list(prompts, 820)[0].count("x") == 820
    page, said = sections.prompt_list(prompts)
    assert page.count("x") == 20_520 and "20,000 characters of 1 longer" in said[0]
    assert sections.prompt_list(prompts, 0)[0].count("x") == 0
    assert sections.prompt_list(prompts[:3])[1] == []


@pytest.mark.parametrize(
    "provenance",
    [{}, {"model": "name only"}, {"model": None, "seed": float("nan")}, {"versions": {"a": [1, {"b": ()}]}}],
)
def test_any_provenance_is_shown(provenance: dict[str, Any]) -> None:
    findings, _, _ = sample_findings.empty()
    assert "No sink found" in build.build_report(findings, provenance, [])


# Figures and repr


def test_a_table_that_is_the_main_thing_leads_the_page() -> None:
    findings = dataclasses.replace(sample_findings.sample()[0], table_title="The <claims>", verification=None)
    page = build.build_report(findings, {}, [])
    assert page.count('id="table"') == 1 and page.index('id="table"') < page.index('id="check"')
    assert "<h2>The &lt;claims&gt;</h2>" in page and "Everything found" not in page
    assert 'id="check" tabindex="-1" hidden' in page and "causal check:" not in page.split("<script")[0]
    usual = build.build_report(sample_findings.sample()[0], {}, [])
    assert usual.index('id="table"') > usual.index('id="check"') and "Everything found" in usual
