"""``interp capture``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options
from interp.errors import UsageError

DAMAGED = 1

StorePath = Annotated[
    Path, typer.Option("--out", metavar="STORE", help="Folder of the store: a new one, or one to add to.")
]
Sites = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Sites, such as 'blocks.*.hook_resid_post' (the default); may be repeated. A store keeps its own.",
    ),
]


def capture(
    out: StorePath,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Alias, hub id[@revision], folder, .gguf file or packaged model (interp ls models).",
            autocompletion=options._models,
            envvar="INTERP_MODEL",
        ),
    ] = None,
    sites: Sites = None,
    text: options.Text = None,
    text_file: options.TextFile = None,
    more_files: options.MoreFiles = None,
    prompts: options.Prompts = None,
    probe: options.Probe = None,
    probe_set: options.ProbeSet = None,
    max_length: options.MaxLength = None,
    limit: options.Limit = None,
    positions: Annotated[
        str | None, typer.Option(metavar="all|last", help="Which positions of a prompt are kept. Default: all.")
    ] = None,
    dtype_store: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE", help="as-is, float16, bfloat16 or float32: how numbers are kept. Default: as-is."
        ),
    ] = None,
    shard_size: Annotated[str, typer.Option(metavar="SIZE", help="How large a file gets, in memory and on disk.")] = (
        "256MB"
    ),
    seed: options.Seed = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read a store and hold it against its digests; no model is needed.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Forget damaged shards and capture their prompts again.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show prompts, sites and sizes; write nothing.")] = False,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    device_map: options.DeviceMap = None,
    bos: options.BosPolicy = options.Bos.auto,
    chat: options.Chat = False,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    debug: options.Debug = False,
) -> None:
    """Stream a model's activations at chosen sites into sharded safetensors files, for probes and other readers.

    The same command again goes on where a killed one was; another one with the same --out adds its prompts.
    """
    if verify:
        _verify(out, json)
        return
    if model is None:
        raise UsageError("--model is missing: name the model to run (only --verify works without one)")
    request: dict[str, Any] = {
        "sites": sites,
        "texts": options.texts_given(text),
        "text_files": options.files_given(text_file, more_files),
        "prompts": prompts,
        "probe": probe,
        "probe_set": options.probe_set_given(probe_set),
        "max_length": max_length,
        "limit": limit,
        "seed": seed,
        "positions": positions,
        "dtype_store": dtype_store,
        "shard_size": shard_size,
        "device": device,
        "dtype": dtype,
        "device_map": device_map,
        "bos": bos.value,
        "chat": chat,
        "allow_pickle": allow_pickle,
        "trust_remote_code": trust_remote_code,
    }
    if dry_run:
        _dry_run(model, out, request, json)
    else:
        _capture(model, out, request, repair, json, quiet)


def _dry_run(model: str, out: Path, request: dict[str, Any], json: bool) -> None:
    from interp.activations.sizes import estimate
    from interp.cli.output import print_json, say

    sizes = estimate(model, out, **request)
    if json:
        print_json(sizes.as_dict())
        return
    for name, value in sizes.lines():
        say(f"{name}: {value}")


def _capture(model: str, out: Path, request: dict[str, Any], repair: bool, json: bool, quiet: bool) -> None:
    from interp.activations.run import capture as run_capture
    from interp.cli.output import print_json, say, warn

    try:
        store = run_capture(model, out, repair=repair, progress=not quiet, **request)
    except KeyboardInterrupt:
        warn("interrupted; resume with the same command")
        raise typer.Exit(130) from None
    if json:
        print_json(store.as_dict())
        return
    first = store.index.sites[0]
    say(f"store: {store.path}")
    say(f"prompts: {len(store)}, {store.index.rows:,} rows ({store.index.positions} positions)")
    say(f"sites: {len(store.sites)} ({first.site}, ...)" if len(store.sites) > 1 else f"site: {first.site}")
    say(f"size: {store.index.bytes / 1e6:,.1f} MB in {len(store.index.shards)} shards, {first.dtype}")


def _verify(out: Path, json: bool) -> None:
    from interp.activations.index import INDEX_FILE, StoreError, read_index
    from interp.activations.store import Store
    from interp.cli.output import print_json, say

    index = read_index(out)
    if index is None:
        raise StoreError(f"no activation store in {out}: it has no {INDEX_FILE}; interp capture writes one")
    store = Store(out, index)
    damaged = store.verify()
    if json:
        found = [{"shard": one.shard, "prompts": one.prompts, "why": one.why} for one in damaged]
        print_json({"store": str(out), "shards": len(index.shards), "damaged": found})
    elif not damaged:
        say(f"{out}: {len(index.shards)} shards with {len(store)} prompts match their digests")
    for one in damaged if not json else []:
        say(f"shard {one.shard} with {one.prompts} prompts is damaged: {one.why}")
    if damaged:
        raise typer.Exit(DAMAGED)
