"""The page of retrieval heads in headless Chromium: what it draws, and how one gets from a head to its tokens."""

from __future__ import annotations

from tests.browser.conftest import Opened


def test_reads_from_the_verdict_to_the_event(opened: Opened) -> None:
    page = opened("retrieval")
    assert page.locator("h1").inner_text().startswith("2 of 24 heads of made-up retrieve (score >= 0.1), led by 0.1")
    assert "masking the best 2 takes recall from 1.00 to 0.10" in page.locator("h1").inner_text()
    assert "causal check: verified" in page.locator("header").inner_text()
    titles = page.locator("#charts h3").all_inner_texts()
    assert "Scores of all heads, best first" in titles and "Always active or only sometimes" in titles
    for plot in ("check", "heads", "overall-0"):
        assert page.locator(f"#{plot}-plot svg.main-svg").count() >= 1, plot
    assert page.locator("#table-table tbody tr").count() == 24
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_rows_of_the_recall_map_have_names(opened: Opened) -> None:
    page = opened("retrieval")
    page.locator("#overall summary").first.click()
    assert page.locator("#overall-0-data tbody th").all_inner_texts() == ["64"]
    assert "64" in (page.locator("#overall-0-plot .yaxislayer-above").text_content() or "")


def test_from_a_head_to_its_row_and_its_tokens(opened: Opened) -> None:
    page = opened("retrieval", "#head=0.1")
    card = page.locator("#head-card")
    assert "1 row of the table is about this head" in card.inner_text()
    card.get_by_role("button", name="Show only these").click()
    assert page.locator("#table-filter").input_value() == "layer:0 head=1"
    assert page.locator("#table-table tbody tr").count() == 1
    page.locator("#table-clear").click()
    card.get_by_role("button", name="See it on the tokens").click()
    assert page.locator("#strip-pattern").input_value() == "0.1"
    kinds = page.locator("#strip-legend .mark").all_inner_texts()
    assert kinds == ["answer in the needle", "needle", "question", "answer written"]
    page.locator("#strip-tokens [data-i='1']").hover()
    assert (
        "Query 1" in page.locator("#strip-status").inner_text()
        and "(1.00)" in page.locator("#strip-status").inner_text()
    )
