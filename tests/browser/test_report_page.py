"""The report in headless Chromium: what a reader can do with it; `opened` (conftest.py) checks what it must not do."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from interp.report.text import label
from tests import sample_findings
from tests.browser.conftest import Opened


@pytest.fixture(scope="module")
def table() -> Any:
    return sample_findings.sample()[0].table


def column(page: Any, index: int) -> list[str]:
    return page.eval_on_selector_all(
        "#table-table tbody tr", f"rows => rows.map(row => row.cells[{index}].textContent)"
    )


def hash_of(page: Any) -> dict[str, str]:
    return page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")


def point_at(page: Any, plot: str, x: float, y: float) -> tuple[float, float]:
    """Put the mouse on (x, y), in the plot's own units; returns where that is on the screen."""
    page.locator(f"#{plot}").scroll_into_view_if_needed()
    left, top = page.evaluate(
        """([id, x, y]) => {
          const plot = document.getElementById(id), { xaxis, yaxis } = plot._fullLayout;
          const box = plot.getBoundingClientRect();
          return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
        }""",
        [plot, x, y],
    )
    page.mouse.move(left - 1, top - 1)
    page.mouse.move(left, top)
    return left, top


def click_cell(page: Any, layer: int, head: int) -> None:
    page.mouse.click(*point_at(page, "heads-plot", head, layer))


def test_reads_from_top_to_bottom(opened: Opened) -> None:
    page = opened("plain")
    headings = page.locator("h1, h2").all_inner_texts()
    assert headings[0].startswith("48 sinks in 8 prompts")
    assert headings[1:3] == ["Read with this in mind", "Does it matter to the model?"]
    assert "causal check: verified" in page.locator("header").inner_text()
    assert "id 1, added: --bos add" in page.locator(".facts").inner_text()
    assert page.locator("#problem").is_hidden()
    for plot in ("check", "heads", "maps", "levels"):
        assert page.locator(f"#{plot}-plot svg.main-svg").count() >= 1, plot
    assert page.locator("section .empty:visible").count() == 1  # no head is selected yet
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_head_is_selected_by_click_by_keys_and_by_list(opened: Opened) -> None:
    page = opened("plain")
    click_cell(page, 20, 2)
    assert page.locator("#head-card h3").inner_text() == "Head 20.2"
    assert "of 270 heads" in page.locator("#head-card").inner_text()
    assert hash_of(page)["head"] == "20.2"
    alive = page.locator("#table-table tr.alive").count()
    assert alive >= 8  # every prompt's anchor lives in layer 20
    page.locator("#heads-plot").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#head-card h3").inner_text() == "Head 21.1"
    page.locator("#head-layer").select_option("4")
    page.locator("#head-head").select_option("4")
    assert page.locator("#head-card h3").inner_text() == "Head 4.4"
    page.get_by_role("button", name="See it on the tokens").click()
    assert page.locator("#strip-pattern").input_value() == "4.4"
    page.get_by_role("button", name="Show only these").click()
    assert page.locator("#table-filter").input_value() == "layer:4"
    assert page.locator("#table-table tbody tr").count() == page.locator("#table-table tr.alive").count() > 0
    page.locator("#heads-plot").focus()
    page.keyboard.press("Escape")
    assert "head" not in hash_of(page)


def test_table_sorts_both_ways_and_filters(opened: Opened, table: Any) -> None:
    page = opened("plain")
    header = page.locator("#table-table thead th").nth(5)
    for direction, reverse in (("descending", True), ("ascending", False)):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == direction
        assert column(page, 5) == [str(v) for v in sorted(table["start_layer"], reverse=reverse)]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "none"
    page.locator("#table-table thead th").nth(4).get_by_role("button").click()
    assert column(page, 4) == sorted(table["kind"])
    page.locator("#table-filter").fill("secondary received>0.13")
    expected = table[(table["kind"] == "secondary") & (table["received"] > 0.13)]
    assert 0 < page.locator("#table-table tbody tr").count() == len(expected) < len(table)
    assert f"{len(expected)} of 48 rows" in page.locator("#table-status").inner_text()
    page.locator("#table-clear").click()
    page.locator("#table-only-kind").select_option("transient")
    assert set(column(page, 4)) == {"transient"}
    page.locator("#table-filter").fill("no such thing")
    assert page.locator("#table-table tbody tr").count() == 0
    assert "No row passes" in page.locator("#table-status").inner_text()


def test_downloads_hold_the_table(opened: Opened, table: Any) -> None:
    page = opened("plain")
    with page.expect_download() as csv_file:
        page.locator("#table-csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(csv_file.value.path()).read_text(encoding="utf-8"), newline="")))
    assert csv_file.value.suggested_filename == "sinks.csv"
    assert list(rows[0]) == list(table.columns)
    assert [row["token"] for row in rows] == list(table["token"])
    assert [float(row["received"]) for row in rows] == pytest.approx(list(table["received"]))
    page.locator("#table-filter").fill("code")
    with page.expect_download() as json_file:
        page.locator("#table-json").click()
    records = json.loads(Path(json_file.value.path()).read_text(encoding="utf-8"))
    expected = table[table["prompt"] == "code"]
    assert [record["position"] for record in records] == list(expected["position"])
    assert records[1]["level"] is None or isinstance(records[1]["level"], int)
    with page.expect_download() as provenance:
        page.locator("#provenance-json").click()
    assert json.loads(Path(provenance.value.path()).read_text(encoding="utf-8"))["provenance"]["dtype"] == "float32"


def test_csv_never_starts_a_formula(opened: Opened) -> None:
    page = opened("hostile")
    with page.expect_download() as file:
        page.locator("#table-csv").click()
    cells = [
        c
        for row in csv.reader(io.StringIO(Path(file.value.path()).read_text(encoding="utf-8"), newline=""))
        for c in row
    ]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_hover_and_keys_on_the_token_strip_shade_the_keys(opened: Opened) -> None:
    findings = sample_findings.sample()[0]
    page = opened("plain", "#pattern=12.3")
    token = page.locator("#strip-tokens [data-i='40']")
    shades = "tokens => tokens.map(token => parseFloat(token.style.getPropertyValue('--a')))"
    rest = page.eval_on_selector_all("#strip-tokens [data-i]", shades)
    token.hover()
    hovered = page.eval_on_selector_all("#strip-tokens [data-i]", shades)
    assert hovered != rest
    assert max(hovered[41:]) == 0  # nothing after the query: causal
    row = findings.strips[0].patterns["12.3"][40]
    assert max(range(512), key=hovered.__getitem__) == int(row.argmax())
    assert (
        f"Query 40 {page.evaluate('''t => t.replaceAll(' ', '␣')''', findings.strips[0].tokens[40])}"
        in page.locator("#strip-status").inner_text()
    )
    assert f"{int(row.argmax())} " in page.locator("#strip-status").inner_text()
    page.mouse.move(5, 5)
    assert page.eval_on_selector_all("#strip-tokens [data-i]", shades) == rest
    page.locator("#strip-tokens [data-i='0']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("#strip-tokens [aria-selected=true]").get_attribute("data-i") == "3"
    assert hash_of(page)["position"] == "3"
    assert "Query 3 " in page.locator("#strip-status").inner_text()
    assert "position 3" in page.locator("#maps-status").inner_text().lower()


def test_the_url_restores_the_view(opened: Opened) -> None:
    wanted = "#head=12.3&prompt=2&position=17&pattern=12.3&sort=norm%3Aasc&filter=arithmetic&only.kind=transient"
    page = opened("plain", f"{wanted}&measure=resid_norm&score=secondary", fresh=True)
    assert page.locator("#head-card h3").inner_text() == "Head 12.3"
    assert page.locator("#heads-score").input_value() == "secondary"
    assert page.locator("#maps-prompt").input_value() == page.locator("#strip-prompt").input_value() == "2"
    assert page.locator("#maps-measure").input_value() == "resid_norm"
    assert page.locator("#strip-pattern").input_value() == "12.3"
    assert page.locator("#strip-tokens .query").get_attribute("data-i") == "17"
    assert set(column(page, 0)) == {"arithmetic"} and set(column(page, 4)) == {"transient"}
    assert page.locator("#table-table thead th").nth(8).get_attribute("aria-sort") == "ascending"
    page.evaluate("location.hash = 'head=3.1'")  # as when a link is pasted into the open page
    page.get_by_role("heading", name="Head 3.1").wait_for()
    assert page.locator("#table-table tbody tr").count() == 48


@pytest.mark.parametrize(
    "fragment",
    ["#head=999.999&prompt=99&position=1e9&sort=nope&measure=x&only.kind=", "#%E0%A4%A=1&head=<b>", "#table"],
)
def test_a_wrong_url_does_no_harm(opened: Opened, fragment: str) -> None:
    page = opened("small", fragment, fresh=True)
    assert page.locator("#table-table tbody tr").count() == 12
    assert page.locator("#heads-plot svg.main-svg").count() >= 1


def test_hostile_text_shows_as_text_and_runs_nothing(opened: Opened) -> None:
    page = opened("hostile", "#head=12.0&position=20")
    for position in (0, 5, 20, 40):
        page.locator(f"#strip-tokens [data-i='{position}']").hover()
    click_cell(page, 11, 1)
    tokens = sample_findings.sample(heads=3, length=80, hostile=True)[2][0].tokens
    for evil in sample_findings.HOSTILE:  # plotly reads labels as pseudo-HTML: they must come out letter by letter
        point_at(page, "maps-plot", tokens.index(evil), 5)
        page.locator("#maps-plot .hovertext").wait_for()
        page.wait_for_timeout(100)
        assert label(evil) in (page.locator("#maps-plot .hovertext").text_content() or "").replace("\xa0", " ")
    for details in page.locator("details").all():
        details.evaluate("node => { node.open = true; }")
    page.mouse.move(600, 450)
    assert page.evaluate("window.__pwned") is None
    assert page.locator("main img[src='x'], main a[href^='javascript'], main script, svg a").count() == 0
    text = page.locator("body").inner_text()
    for evil in sample_findings.HOSTILE[:4]:
        assert evil in text
    assert "<script>window.__pwned=1;alert(1)</script>" in page.locator("h1").inner_text()
    assert "<script>window.__pwned=1;alert(1)</script>" in page.locator(".eyebrow").inner_text()
    assert "<script>window.__pwned=1;alert(1)</script>" in page.locator("#provenance").inner_text()
    assert "\\u202eevil\\u2028\\u2029\ufffd\\u0000" in page.locator("#strip-tokens").inner_text()
    assert "\u202e" not in text
    assert page.title() == "sinks in smollm2-135m<script>window.__pwned=1;alert(1)</script>"


def test_empty_findings_say_so(opened: Opened) -> None:
    page = opened("empty")
    assert page.locator("h1").inner_text() == "No sink found in 1 prompt of 64 tokens."
    text = page.locator("main").inner_text()
    for part in (
        "the table is empty",
        "No causal check was run",
    ):
        assert part in text, part
    assert page.locator("#table-controls").is_hidden()
    for section in (
        "heads",
        "maps",
        "levels",
        "overall",
        "tokens",
    ):  # nothing to draw: neither the section nor a link to it
        assert page.locator(f"section#{section}").is_hidden()
        assert page.locator(f"nav a[href='#{section}']").is_hidden()
    assert page.locator("#charts, #sheets, nav a[href='#charts'], nav a[href='#sheets']").count() == 0
    assert page.locator("nav a:visible").all_inner_texts() == ["Verdict", "Check", "Table", "Provenance"]


def test_levels_and_numbers_behind_each_plot(opened: Opened, table: Any) -> None:
    page = opened("plain")
    for name in ("check", "heads", "maps", "levels"):
        page.locator(f"#{name} summary").first.click()
        page.locator(f"#{name}-data tbody tr").first.wait_for()  # the toggle event comes after the click
    assert page.locator("#heads-data tbody tr").count() == 30
    assert page.locator("#maps-data tbody tr").count() == 512
    counts = page.eval_on_selector_all(
        "#levels-data tbody tr", "rows => rows.map(row => Number(row.cells[3].textContent))"
    )
    assert sum(counts) == len(table)
    assert len(counts) == len(table.groupby(["kind", "start_layer", "lifetime"]))


def test_rows_lead_to_their_prompt_and_token(opened: Opened, table: Any) -> None:
    page = opened("plain")
    row = next(i for i, name in enumerate(table["prompt"]) if name == "dialogue") + 1
    page.locator("#table-table tbody tr").first.focus()
    for _ in range(row):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#maps-prompt").input_value() == "3"
    assert page.locator("#strip-tokens .query").get_attribute("data-i") == str(table["position"].iloc[row])
    assert table["kind"].iloc[row] in page.locator("#maps-status").inner_text().lower()


def test_dark_print_and_no_script(opened: Opened, browser: Any, reports: dict[str, Path]) -> None:
    page = opened("small", color_scheme="dark")
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert sum(map(int, paper[4:-1].split(","))) < 150 < 600 < sum(map(int, ink[4:-1].split(",")))
    tick = "getComputedStyle(document.querySelector('#heads-plot .xtick text')).fill"
    dark = page.evaluate(tick)
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(500)
    assert page.evaluate(tick) != dark
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.get_by_role("button", name="lifetime").is_visible()  # column names stay, controls go
    assert page.locator("#table-csv").is_hidden()
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(reports["small"].as_uri())
    assert plain.locator("noscript p").is_visible()
    assert plain.locator("#table-table tbody tr").count() == 12
    assert "12 sinks in 2 prompts" in plain.locator("h1").inner_text()
    context.close()


def test_every_control_has_a_name_and_the_keyboard_reaches_it(opened: Opened) -> None:
    page = opened("small", "#head=12.3", fresh=True)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("main select, main input, main button, main [tabindex='0']")]
             .filter(node => !node.closest(".modebar"))
             .filter(node => !(node.labels?.length || node.textContent.trim() || node.ariaLabel))
             .map(node => node.id)"""
    )
    assert nameless == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {
        "heads-score",
        "heads-plot",
        "head-layer",
        "maps-prompt",
        "maps-position",
        "table-filter",
        "table-csv",
        "strip-pattern",
    } <= reached
