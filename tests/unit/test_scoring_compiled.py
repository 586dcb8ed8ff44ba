"""A kernel says when it is compiled, and only then."""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
import pytest

from interp.scoring.compiled import announced, stored, telling


def _sum_of_squares(values):  # type: ignore[no-untyped-def]
    total = 0.0
    for value in values:
        total += value * value
    return total


def fresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """The kernel as a new process has it."""
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(folder))
    return numba.njit(cache=True)(_sum_of_squares)


def test_the_first_call_on_a_machine_tells_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    raw = fresh(tmp_path, monkeypatch)
    kernel = announced(raw)
    assert not stored(raw)
    with telling(told.append):
        assert kernel(np.arange(3.0)) == 5.0
        assert told == ["compiling sum of squares for this machine (once)"] and stored(raw)
        assert kernel(np.arange(4)) == 14.0
        again = announced(fresh(tmp_path, monkeypatch))
        assert again(np.arange(3.0)) == 5.0
    assert len(told) == 1


def test_where_nobody_listens_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert announced(fresh(tmp_path, monkeypatch))(np.arange(3.0)) == 5.0
