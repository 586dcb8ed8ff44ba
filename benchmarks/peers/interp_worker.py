"""Our side: the same states and masses in one trace, and a plain forward: interp_worker.py MODEL IDS.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.turns import serve

import interp
from interp.tracing.statistics import Received

SITES = "blocks.*.hook_resid_post"


def main() -> None:
    name, ids_file = sys.argv[1:]
    ids = torch.tensor([json.loads(Path(ids_file).read_text("utf-8"))])
    model = interp.load(name, device="cpu", check=False)

    def plain() -> None:
        with torch.no_grad():
            model.hf(ids, use_cache=False)

    def read(ids: torch.Tensor = ids) -> tuple[Any, Any]:
        with torch.no_grad(), interp.trace(model, read=[SITES], stats=[Received()]) as t:
            t.run(ids)
        states = [t[f"blocks.{layer}.hook_resid_post"] for layer in range(model.n_layers)]
        return t.stats["received"], torch.stack(states)

    def save(found: tuple[Any, Any], file: str) -> None:
        np.savez(file, received=found[0].numpy(), states=found[1].numpy())

    read(ids[:, :64])  # the first pass reads the weights from disk
    serve({"plain": plain, "read": read}, save)


if __name__ == "__main__":
    main()
