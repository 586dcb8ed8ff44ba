"""nnsight's side: the state after every block, and the attention every key receives, in one trace.

Runs in nnsight's environment: nnsight_worker.py MODEL_FOLDER IDS.json
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import torch
from nnsight import TransformersModel
from peers.turns import serve


def main() -> None:
    warnings.simplefilter("ignore")
    folder, ids_file = sys.argv[1:]
    ids = torch.tensor([json.loads(Path(ids_file).read_text("utf-8"))])
    options = {"attn_implementation": "eager", "dtype": torch.float32, "device_map": "cpu"}
    model = TransformersModel(folder, task="text-generation", dispatch=True, **options)

    def read(ids: torch.Tensor = ids) -> tuple[Any, Any]:
        seeing = torch.arange(ids.shape[1], 0, -1)  # how many queries see each key
        # each pattern is summed up inside the trace, so that no two of them are held at a time
        with torch.no_grad(), model.trace(ids, use_cache=False):
            masses, states = nnsight.save([]), nnsight.save([])
            for layer in model.model.layers:
                masses.append(layer.self_attn.output[1].sum(-2) / seeing)
                states.append(layer.output)
        return torch.stack(list(masses)), torch.stack(list(states))

    def save(found: tuple[Any, Any], file: str) -> None:
        np.savez(file, received=found[0].numpy(), states=found[1].numpy())

    read(ids[:, :64])  # the first pass reads the weights from disk
    serve({"read": read}, save)


if __name__ == "__main__":
    main()
