"""A worker killed in the middle of a unit: nothing is lost, nothing is done twice, the table is that of any other way.

The same on the pool and on a local Ray cluster of two workers; the yardstick is plain scans, one after another. (What a
pool of several workers does when one dies is tested with workers that only play their part, in test_sweep_pool.py.)
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import interp
from tests.sweeps import LOOSE, Killer, one_thread, save_models, save_prompts, stored

PROMPTS, EARLY = 16, 4
LENGTH = 64

RAY = pytest.mark.filterwarnings(  # Ray ends the processes of its cluster without waiting for them
    "ignore:subprocess .* is still running:ResourceWarning"
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("sweep")
    prompts = save_prompts(place / "prompts.jsonl", PROMPTS)
    finders = [{"name": "sinks", "set": LOOSE}]
    return {"models": save_models(place), "finders": finders, "probes": [{"prompts": prompts}], "max_length": LENGTH}


@pytest.fixture(scope="module")
def scanned(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[pd.DataFrame]:
    """The tables of plain scans."""
    place = tmp_path_factory.mktemp("scans")
    file = spec["probes"][0]["prompts"]
    with one_thread():
        runs = [
            interp.scan(model, config=LOOSE, prompts=file, max_length=LENGTH, out=place / str(i), progress=False)
            for i, model in enumerate(spec["models"])
        ]
    return [run.table for run in runs]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread a worker, as the scans that it is compared with have."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's sockets have paths of no more than 107 bytes."""
    folder = tempfile.mkdtemp(prefix="ray")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize(
    ("engine", "workers"), [pytest.param("pool", 1, id="pool"), pytest.param("ray", 2, id="ray", marks=RAY)]
)
@pytest.mark.usefixtures("threads", "short_temp")
def test_a_worker_killed_in_the_middle(
    engine: Any,
    workers: int,
    spec: dict[str, Any],
    scanned: list[pd.DataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "sweep"
    killer = Killer(out, EARLY)
    killer.start()
    result = interp.sweep(spec, out=out, workers=workers, memory="8GB", engine=engine, progress=False)
    gc.collect()  # what Ray left unfinished is its own, and not the next test's
    killer.join()
    assert capsys.readouterr().out == ""  # Ray, too, tells of a death, and must not do so among the data
    assert killer.run_folder is not None and EARLY <= len(killer.before) < PROMPTS  # while it was measuring

    # nothing lost: every unit has finished, the killed one at its second attempt, from what lay there
    assert result.failed == {}
    units = {unit["folder"]: unit for unit in result.record["units"]}
    outcomes = {name: [attempt["outcome"] for attempt in unit["attempts"]] for name, unit in units.items()}
    killed = killer.run_folder.name
    assert outcomes.pop(killed) == ["died", "finished"]
    assert list(outcomes.values()) == [["finished"]]
    assert "SIGKILL" in units[killed]["attempts"][0]["error"] or engine == "ray"
    assert units[killed]["attempts"][1]["pid"] != killer.pid
    after = stored(killer.run_folder)
    assert {name: after[name] for name in killer.before} == killer.before  # none of it measured again
    record = json.loads((killer.run_folder / "run.json").read_text())
    assert record["provenance"]["effect"]["memory"]["limit"] == 8_000_000_000 // workers  # its worker's share
    assert record["provenance"]["units"]["on_disk"]["measure"] == len(killer.before)
    assert len(after) == 2 * PROMPTS  # as many pieces as a run without a kill has

    # nothing doubled: the table has the rows of plain scans, in the same order
    table = result.table
    assert list(table["model"].unique()) == ["one", "two"]
    for name, found in zip(("one", "two"), scanned, strict=True):
        assert len(found) > PROMPTS // 2
        part = table[table["model"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(
            part[list(found.columns)], found, check_exact=True, check_dtype=False, check_index_type=False
        )
    counted = duckdb.sql(f"SELECT count(*), count(DISTINCT unit) FROM '{out}/results.parquet'").fetchall()
    assert counted == [(sum(map(len, scanned)), 2)]

    # the same call again finds it all there
    again = interp.sweep(spec, out=out, engine=engine, progress=False)
    assert [len(unit["attempts"]) for unit in again.record["units"]] == [len(u["attempts"]) for u in units.values()]
    pd.testing.assert_frame_equal(again.table, table)
