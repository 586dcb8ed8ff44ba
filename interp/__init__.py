"""interp: a mechanistic-interpretability workbench.

The public API, loaded on first use (PEP 562), so that ``import interp`` and ``interp --help`` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.ablation.calls import ablate
    from interp.activations.run import capture
    from interp.activations.store import open_store
    from interp.comparison.compare import compare
    from interp.errors import InterpError, LoadError, SelfCheckError, SiteError, TraceError, UsageError
    from interp.findings import Findings
    from interp.models.load import load
    from interp.models.model import Model
    from interp.models.packaged import get
    from interp.papers.run import reproduce
    from interp.repairs.calls import repair
    from interp.runs.result import ScanResult, open_run
    from interp.runs.scan import scan
    from interp.sweeps.result import SweepResult, open_sweep
    from interp.sweeps.run import sweep
    from interp.tracing.calls import received
    from interp.tracing.tracer import trace

    __version__: str

_WHERE = {
    "load": "interp.models.load",
    "get": "interp.models.packaged",
    "scan": "interp.runs.scan",
    "ablate": "interp.ablation.calls",
    "repair": "interp.repairs.calls",
    "open_run": "interp.runs.result",
    "capture": "interp.activations.run",
    "open_store": "interp.activations.store",
    "compare": "interp.comparison.compare",
    "sweep": "interp.sweeps.run",
    "open_sweep": "interp.sweeps.result",
    "reproduce": "interp.papers.run",
    "Model": "interp.models.model",
    "ScanResult": "interp.runs.result",
    "SweepResult": "interp.sweeps.result",
    "Findings": "interp.findings",
    "trace": "interp.tracing.tracer",
    "received": "interp.tracing.calls",
    "InterpError": "interp.errors",
    "UsageError": "interp.errors",
    "LoadError": "interp.errors",
    "SiteError": "interp.errors",
    "TraceError": "interp.errors",
    "SelfCheckError": "interp.errors",
}

__all__ = [
    "load",
    "scan",
    "ablate",
    "repair",
    "open_run",
    "capture",
    "open_store",
    "compare",
    "sweep",
    "open_sweep",
    "reproduce",
    "trace",
    "received",
    "get",
    "Model",
    "ScanResult",
    "SweepResult",
    "Findings",
    "InterpError",
    "UsageError",
    "LoadError",
    "SiteError",
    "TraceError",
    "SelfCheckError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'interp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("interp-workbench")
    except PackageNotFoundError:  # imported from a source tree that was never installed
        return "0+unknown"
