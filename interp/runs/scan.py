"""`scan`: from a model's name to findings in a run folder, in one call."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.errors import SelfCheckError
from interp.findings import Findings
from interp.runs import progress as reporting
from interp.runs import provenance
from interp.runs.archive import save_findings
from interp.runs.generate import caveats, continued, responses, sheet
from interp.runs.lock import locked
from interp.runs.memory_retry import plainly
from interp.runs.memory_run import refuse_too_little, sized
from interp.runs.places import runs_dir
from interp.runs.plan import Plan, plan
from interp.runs.result import ScanResult, prompt_record
from interp.runs.run import Request, Tally, claim, execute
from interp.runs.settings import as_dict
from interp.runs.store import SCHEMA, RunFolder, RunFolderError, plain
from interp.scoring.compiled import telling
from interp.text import file_name
from probes.base import Prompt


def scan(
    model: Any,
    find: str = "sinks",
    *,
    texts: str | Mapping[str, str] | Sequence[str | tuple[str, str]] | None = None,
    text_files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    prompts: str | os.PathLike[str] | Sequence[Prompt] | None = None,
    probe: str | None = None,
    probe_set: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    limit: int | None = None,
    generate: int | None = None,
    out: str | os.PathLike[str] | None = None,
    config: Any = None,
    seed: int = 0,
    fresh: bool = False,
    progress: bool = True,
    keep_arrays: int | None = None,
    command: str | None = None,
    memory: str | int | None = None,
    engine: str = "auto",
    **load_options: Any,
) -> ScanResult:
    """Scan a model for something and write a run folder.

    The same call again, after a kill or for another look, measures only what is not on disk yet.

    Args:
        model: anything `interp.load` takes.
        find: name of a registered finder.
        texts, text_files, prompts, probe: at most one of them. Texts as a string, a list, (name, text) pairs or a dict;
            text files; a JSONL file or ready `Prompt` objects; a registered probe. None of them: the finder's probe,
            for most the shipped texts. The finder's probe also reads the file, where it has a form of its own.
        probe_set: settings of the probe to change, for example ``{"lengths": (512, 1024)}`` of needle.
        max_length: prompts are cut to this many tokens (and said to be); default: the finder's, for most 512.
        limit: only so many prompts: the first, or those that a probe picks (needle: a balanced part of its grid).
        generate: let the model continue each prompt by at most so many tokens (greedily; `max_length` goes for the
            prompt before that), and scan prompt and response.
        out: run folder. Default ``<finder>-<model>-<key>`` in the folder that the variable INTERP_RUNS names, else in
            ``./runs``: another request gets another folder.
        config: the finder's settings: its config object or a dict of the fields to change.
        seed: for probes that draw and for finders that do.
        fresh: discard what an earlier run left in the folder.
        progress: report on stderr.
        keep_arrays: for how many prompts per-position arrays are kept, for finders that keep any.
        command: what to record as the command line; default: this process's own.
        memory: keep within so much (``"8GB"``, ``"0.5GiB"``, bytes), with smaller pieces where needed; default: what is
            free (docs/memory.md).
        engine: what takes attention statistics: ``blocked``, ``fused`` or ``auto`` (docs/tracing.md).
        load_options: ``device``, ``dtype``, ``bos``, ... for `interp.load`.

    Raises:
        UsageError: the request is malformed, or cannot be done within `memory`.
        LoadError, SelfCheckError: the model cannot be loaded or trusted.
        RunFolderError: the folder cannot be used, or another process works in it.
        OutOfMemoryError: memory ran out with the smallest pieces; what was finished is kept.
    """
    planned = plan(
        find,
        texts=texts,
        text_files=text_files,
        prompts=prompts,
        probe=probe,
        probe_set=probe_set,
        max_length=max_length,
        limit=limit,
        generate=generate,
        config=config,
        seed=seed,
        keep_arrays=keep_arrays,
        memory=memory,
        engine=engine,
        **load_options,
    )
    if out is not None:
        RunFolder(out).prepare()  # a folder that cannot be used is better known before a model is loaded
    started = provenance.now()
    with reporting.choose(quiet=not progress) as told:
        try:
            refuse_too_little(planned, model)
            loaded, checked = load_checked(model, load_options, told)
            ready = planned.prompts(loaded)
        except BaseException:
            if out is not None:
                RunFolder(out).leave()
            raise
        request = Request(loaded, planned.finder, planned.config, ready, planned.generate)
        folder = RunFolder(default_folder(request) if out is None else out)
        folder.prepare()
        told.say(f"{loaded.name}: {len(ready)} prompts from {planned.source.told}; position 0: {loaded.position0}")
        told.say(f"run folder: {folder.path}")
        with locked(folder.path), telling(told.say):
            claim(folder, request, fresh)
            record, tally = new_record(planned, request, checked, started, command), Tally()
            with sized(planned, request, told, record) as attempt:
                request = written_on(request, folder, told, record, tally)

                def work(counts: Tally) -> Findings:
                    findings = execute(request, folder, told, counts, attempt)
                    findings.caveats += [caveat] if (caveat := attempt.caveat()) else []
                    record["provenance"]["effect"]["memory"] = attempt.as_dict()
                    return findings

                return run_in(request, folder, told, record, work, tally)


def default_folder(request: Request) -> Path:
    """``<runs_dir>/<finder>-<model>-<short key>``, from names nobody needs to trust."""
    return runs_dir() / f"{file_name(request.finder.name)}-{file_name(request.model.name)}-{request.key[:8]}"


def load_checked(model: Any, load_options: dict[str, Any], told: reporting.Progress) -> tuple[Any, Any]:
    """(model, outcome of its self-check); `SelfCheckError` when it fails, for no number from it could be trusted."""
    from interp.models.load import load
    from interp.models.self_check import self_check

    with plainly("loading"):
        loaded = load(model, **load_options, check=False, progress=told.say)
        checked = self_check(loaded)
    if not checked.ok:
        raise SelfCheckError(f"{loaded.name}: the self-check failed ({'; '.join(checked.notes) or 'no reason given'})")
    return loaded, checked


def new_record(planned: Plan, request: Request, checked: Any, started: str, command: str | None) -> dict[str, Any]:
    """run.json as it stands before anything was measured."""
    model = request.model
    effect = {
        **{name: plain(value) for name, value in planned.given.items() if name != "set"},
        "max_length": planned.length_for(model),
        **({"probe_set": plain(planned.source.settings)} if planned.source.settings else {}),
        "seed": planned.seed,
        "source": planned.source.told,
        "set": as_dict(request.config),
        "bos": model.bos,
        "chat": model.chat,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    record = {
        "schema": SCHEMA,
        "status": "running",
        "key": request.key,
        "key_parts": plain(request.parts),
        "provenance": {
            "finder": request.finder.name,
            "finder_version": str(getattr(request.finder, "version", "1")),
            **plain(provenance.model_facts(model, checked)),
            "given": plain(planned.given),
            "effect": effect,
            "seed": planned.seed,
            "prompts": [],
            "versions": provenance.versions(),
            "host": provenance.describe_host(),
            **provenance.checkout(),
            "command": provenance.command_line() if command is None else command,
            "key": request.key,
            "started": started,
            "finished": None,
        },
        "prompts": [],
    }
    _put_prompts(record, request.prompts)
    return record


def _put_prompts(record: dict[str, Any], prompts: Sequence[Prompt]) -> None:
    """What run.json says of the prompts, in short in the provenance and in full."""
    record["provenance"]["prompts"] = [
        {"name": prompt.name, "hash": prompt.hash, "tokens": len(prompt), "truncated": prompt.truncated}
        for prompt in prompts
    ]
    record["prompts"] = [prompt_record(prompt) for prompt in prompts]


def written_on(
    request: Request, folder: RunFolder, told: reporting.Progress, record: dict[str, Any], tally: Tally
) -> Request:
    """The request with the model's own continuations in its prompts, where it asks for any; `record` says so."""
    if request.generate is None:
        return request
    with running(folder, record), plainly("generating"):
        longer = continued(request.model, request.prompts, request.generate, folder, told, tally)
    _put_prompts(record, longer)
    return replace(request, prompts=longer)


def run_in(
    request: Request,
    folder: RunFolder,
    told: reporting.Progress,
    record: dict[str, Any],
    work: Callable[[Tally], Findings],
    tally: Tally | None = None,
) -> ScanResult:
    """Do the work, write what it found, and mark the run as finished last of all.

    `tally` may hold counts of what was done before.
    """
    tally = Tally() if tally is None else tally
    with running(folder, record):
        findings = work(tally)
        _add_caveats(findings, request, record["provenance"]["attention_path"])
        told.say("writing the findings and the page")
        record["provenance"]["units"] = {"measured": tally.measured, "on_disk": tally.stored}
        record["provenance"]["finished"] = provenance.now()
        record["findings"] = save_findings(folder, findings)
        findings.summary = record["findings"]["summary"]  # as a reader of the folder gets it
        result = ScanResult(findings, record["provenance"], request.prompts, folder.path)
        result.report()
        folder.write_json({**record, "status": "finished"})
    return result


@contextlib.contextmanager
def running(folder: RunFolder, record: dict[str, Any]) -> Iterator[None]:
    """run.json says that the run is going on, and after an error how it ended.

    Once finished, a run stays so on disk until another call has finished too: reopening it must not cost the result.
    """
    before = folder.read_json()  # of the same request: `claim` refuses or discards any other
    finished_before = before is not None and before.get("status") == "finished"
    if not finished_before:
        folder.write_json(record)
    try:
        yield
    except BaseException as error:
        record["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record["provenance"]["finished"] = None
        if not finished_before:
            with contextlib.suppress(RunFolderError):  # the disk may be what failed; the error itself is the news
                folder.write_json(record)
        raise


def _add_caveats(findings: Findings, request: Request, attention_path: str) -> None:
    """What the runner knows and a reader must see; a finder may have said more."""
    prompts = request.prompts
    twins = len(prompts) - len({provenance.prompt_key(prompt) for prompt in prompts})
    if twins:
        findings.caveats.append(f"{twins} prompts repeat another one token for token and count again.")
    notes = {note: prompt.name for prompt in reversed(prompts) for note in prompt.notes}
    findings.caveats += [f"Prompt {name}: {note}." for note, name in reversed(notes.items())]
    if responses(prompts):
        findings.caveats += caveats(prompts, request.model.chat)
        findings.sheets.append(sheet(prompts))
    if attention_path != "streamed":
        findings.caveats.append(
            "This model bypasses the streamed attention path; patterns were read from its eager attention."
        )
