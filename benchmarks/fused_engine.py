"""The fused engine beside plain sdpa: whole prefill of a prompt with and without the attention every key receives.

On a GPU: a model of Qwen3-14B's shape with random weights in bf16 (speed does not hang on their values), at 4k, 32k and
128k tokens, time and peak memory, both in one piece. On a CPU, where a trace chooses blocks of rows: SmolLM2-135M, both
engines and the chunked prefill beside plain sdpa, with the largest difference of their numbers.

    python benchmarks/fused_engine.py [--lengths 4096 32768 131072] [--pairs 3] [--layers 40] [--out results.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
from rows import Row, as_json, measured

MODEL = "smollm2-135m"
SHAPE = {
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
    "rope_theta": 1e6,
}
GPU_LENGTHS, CPU_LENGTHS = (4096, 32768, 131072), (2048,)


def random_model(layers: int) -> Any:
    """Qwen3-14B's shape on the GPU, weights drawn there."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("qwen3", num_hidden_layers=layers, **SHAPE)
    config.architectures = ["Qwen3ForCausalLM"]
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    return model.eval()


def timed(work: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Seconds."""
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


def on_gpu(lengths: tuple[int, ...], pairs: int, layers: int) -> list[dict[str, Any]]:
    """Time and extra memory at each length."""
    import torch

    from interp.tracing.statistics import Received
    from interp.tracing.tracer import trace

    hf, found = random_model(layers), []
    for length in lengths:
        ids = torch.randint(0, SHAPE["vocab_size"], (1, length), device="cuda")
        engines: set[str] = set()

        def plain(ids: Any = ids) -> None:
            with torch.no_grad():
                hf(ids, use_cache=False, logits_to_keep=1)

        def ours(ids: Any = ids, engines: set[str] = engines) -> None:
            with trace(hf, stats=[Received()]) as t:
                t.run(ids, logits_to_keep=1)
                engines |= set(t.engines.values()) | set(t.notes)
                t.stats["received"]

        peaks = []
        for work in (plain, ours):
            work()  # compiles
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            work()
            peaks.append(torch.cuda.max_memory_allocated())
        turns = [[timed(work, torch.cuda.synchronize) for work in (plain, ours)] for _ in range(pairs)]
        found.append(
            {
                "T": length,
                "layers": layers,
                "engines": sorted(engines),
                "plain_seconds": statistics.median(turn[0] for turn in turns),
                "ratios": [turn[1] / turn[0] for turn in turns],
                "extra_gb": (peaks[1] - peaks[0]) / 1e9,
            }
        )
    return found


def on_cpu(lengths: tuple[int, ...], pairs: int) -> list[dict[str, Any]]:
    """Both engines, and chunks, beside plain sdpa."""
    import torch

    import interp

    model, found = interp.load(MODEL, device="cpu", check=False), []
    ways: dict[str, dict[str, Any]] = {
        "blocked": {"engine": "blocked"},
        "fused": {"engine": "fused"},
        "blocked, chunks": {"engine": "blocked", "chunk": 512},
    }
    for length in lengths:
        torch.manual_seed(0)
        ids = torch.randint(100, model.vocab_size - 100, (1, length))

        def plain(ids: Any = ids) -> None:
            with torch.no_grad():
                model.hf(ids, use_cache=False, logits_to_keep=1)

        plain()
        expected = interp.received(model, ids, engine="blocked")
        for way, options in ways.items():

            def ours(ids: Any = ids, options: dict[str, Any] = options) -> Any:
                return interp.received(model, ids, **options)

            difference = float((ours() - expected).abs().max())
            turns = [[timed(work, lambda: None) for work in (plain, ours)] for _ in range(pairs)]
            ratios = [turn[1] / turn[0] for turn in turns]
            found.append({"T": length, "way": way, "ratios": ratios, "difference": difference})
    return found


def suite_rows(gpu: list[dict[str, Any]], cpu: list[dict[str, Any]]) -> list[Row]:
    """For the suite's table."""
    rows = []
    for one in gpu:
        size = f"{one['T'] // 1024}k"
        note = f"{', '.join(one['engines'])}; {one['layers']} layers"
        if one["engines"] != ["fused"]:  # a time of something else is no time of this
            one = {**one, "ratios": [], "extra_gb": None}
        texts = {
            "what": f"attention received by every key, Qwen3-14B's shape, bf16, T = {size}",
            "against": "plain sdpa prefill",
        }
        rows.append(measured(f"fused_engine.time.{size}", one["ratios"], note=note, **texts, unit="x its time"))
        rows.append(
            measured(
                f"fused_engine.memory.{size}",
                [one["extra_gb"]] if one["ratios"] else [],
                note=note,
                **texts,
                unit="GB beyond it",
            )
        )
    for one in cpu:
        what = f"attention received by every key, SmolLM2-135M, T = {one['T']:,}: {one['way']}"
        note = f"largest difference from blocked {one['difference']:.0e}"
        name = f"fused_engine.cpu.{one['way'].replace(', ', '_')}.{one['T']}"
        texts = {"what": what, "against": "plain sdpa forward", "unit": "x its time"}
        rows.append(measured(name, one["ratios"], note=note, **texts))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", help="default: 4k, 32k, 128k on a GPU, 2k on a CPU")
    parser.add_argument("--pairs", type=int, default=3, help="turns with plain sdpa")
    parser.add_argument("--layers", type=int, default=40, help="of the model on the GPU; Qwen3-14B has 40")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fused_engine.json")
    arguments = parser.parse_args()
    import torch

    has_gpu = torch.cuda.is_available()
    lengths = tuple(arguments.lengths or (GPU_LENGTHS if has_gpu else CPU_LENGTHS))
    gpu = on_gpu(lengths, arguments.pairs, arguments.layers) if has_gpu else []
    cpu = [] if has_gpu else on_cpu(lengths, arguments.pairs)
    rows = suite_rows(gpu, cpu)
    result = {"gpu": gpu, "cpu": cpu, "device": torch.cuda.get_device_name() if has_gpu else None}
    result |= {"machine": machine.machine(), "suite": as_json(rows)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        told = "not measured" if row.ratio is None else f"{row.ratio:.2f} {row.unit}"
        print(f"{row.what}: {told} ({row.against}; {row.note})")
    if not has_gpu:
        print("no GPU here: Qwen3-14B's shape was not measured")


if __name__ == "__main__":
    main()
