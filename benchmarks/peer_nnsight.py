"""Reading a model beside nnsight: the state after every block and the attention every key receives, in one pass.

nnsight lives in an environment of its own (`benchmarks/peers/nnsight_env.py` makes it), with the same torch and
transformers, the same weights and the same token ids. It reads attention patterns with eager attention, as it has to,
and sums each up inside the trace. Both sides stay loaded and take turns; their numbers must agree before a time counts.

    python benchmarks/peer_nnsight.py [--model smollm2-135m] [--lengths 512 2048] [--turns 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
from peers.nnsight_env import NNSIGHT, ensure
from peers.turns import Worker
from rows import Row, as_json, measured

HERE = Path(__file__).resolve().parent
AGREE = 1e-4
"""How far masses may lie apart, and states as a share of the largest, in float32."""


def compared(python: Path, model: str, folder: str, ids: list[int], turns: int) -> dict[str, Any]:
    """Both sides on one prompt.

    Raises:
        RuntimeError: their numbers do not agree, or a side ended.
    """
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "ids.json"
        file.write_text(json.dumps(ids))
        sides = {
            "interp": [sys.executable, str(HERE / "peers" / "interp_worker.py"), model, str(file)],
            "nnsight": [str(python), str(HERE / "peers" / "nnsight_worker.py"), folder, str(file)],
        }
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        with Worker(sides["interp"], path) as ours, Worker(sides["nnsight"], str(HERE)) as peer:
            found, first = {}, {}
            for name, side in (("interp", ours), ("nnsight", peer)):
                first[name] = side.ask("read", save=str(Path(scratch) / f"{name}.npz"))
                with np.load(Path(scratch) / f"{name}.npz") as arrays:
                    found[name] = {key: arrays[key] for key in arrays}
            apart = {key: difference(found["interp"][key], found["nnsight"][key]) for key in ("received", "states")}
            if not max(apart.values()) < AGREE:
                raise RuntimeError(f"nnsight and interp do not agree: {apart}")
            asked = [(ours, "plain"), (ours, "read"), (peer, "read")]
            times = [[side.ask(way)["seconds"] for side, way in asked] for _ in range(turns)]
    return {
        "T": len(ids),
        "apart": apart,
        "extra_mib": {name: answer["extra_mib"] for name, answer in first.items()},
        "plain": [one[0] for one in times],
        "interp": [one[1] for one in times],
        "nnsight": [one[2] for one in times],
    }


def difference(one: Any, other: Any) -> float:
    """The largest, as a share of the largest value where that is above 1."""
    import numpy as np

    if one.shape != other.shape:
        raise RuntimeError(f"nnsight and interp read different shapes: {other.shape}, {one.shape}")
    return float(np.abs(one - other).max() / max(1.0, np.abs(one).max()))


def suite_rows(found: list[dict[str, Any]], why: str, lengths: list[int]) -> list[Row]:
    """For the suite's table; `why` nnsight could not be run, where it could not."""
    rows, by_length = [], {one["T"]: one for one in found}
    for length in lengths:
        about = f"states after every block and attention received, SmolLM2-135M, T = {length:,}"
        texts = {"what": about, "against": f"nnsight {NNSIGHT}, eager attention", "unit": "x as fast"}
        one = by_length.get(length)
        if one is None:
            rows.append(measured(f"peer_nnsight.time.{length}", [], note=why, **texts))
            continue
        faster = [slow / quick for slow, quick in zip(one["nnsight"], one["interp"], strict=True)]
        note = f"masses {one['apart']['received']:.0e} apart, states {one['apart']['states']:.0e}"
        rows.append(measured(f"peer_nnsight.time.{length}", faster, note=note, **texts))
        for side in ("interp", "nnsight"):
            slower = [slow / quick for slow, quick in zip(one[side], one["plain"], strict=True)]
            plain = {"what": f"{about}: {side}", "against": "plain sdpa forward", "unit": "x its time"}
            rows.append(measured(f"peer_nnsight.{side}.{length}", slower, **plain))
        if one["extra_mib"]["nnsight"] > 0:
            memory = [one["extra_mib"]["interp"] / one["extra_mib"]["nnsight"]]
            texts |= {"what": f"extra peak memory, {about}", "unit": "x its extra memory"}
            rows.append(measured(f"peer_nnsight.memory.{length}", memory, **texts))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "peer_nnsight.json")
    arguments = parser.parse_args()
    found, why = [], ""
    try:
        python = ensure()
    except (OSError, subprocess.CalledProcessError) as error:
        why = f"nnsight {NNSIGHT} could not be installed: {error}"
        print(why, file=sys.stderr)
    else:
        import interp

        model = interp.load(arguments.model, device="cpu", check=False)
        folder, vocabulary, rng = model.hf.config._name_or_path, model.vocab_size, random.Random(0)
        del model
        for length in arguments.lengths:
            ids = [rng.randrange(100, vocabulary - 100) for _ in range(length)]
            found.append(compared(python, arguments.model, folder, ids, arguments.turns))
    facts = machine.machine()
    result = {"machine": facts, "why": why, "rows": found}
    result["suite"] = as_json(suite_rows(found, why, arguments.lengths))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print("| T | plain sdpa, s | interp, s | nnsight, s | interp, extra GiB | nnsight, extra GiB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for one in found:
        seconds = " | ".join(f"{statistics.median(one[side]):.2f}" for side in ("plain", "interp", "nnsight"))
        memory = " | ".join(f"{one['extra_mib'][side] / 1024:.2f}" for side in ("interp", "nnsight"))
        print(f"| {one['T']:,} | {seconds} | {memory} |")
    print(why or f"\n{machine.sentence(facts)}; nnsight {NNSIGHT}")


if __name__ == "__main__":
    main()
