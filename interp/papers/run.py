"""`reproduce`: a paper's runs on one model, then a verdict for each of its claims.

Each run is an ordinary scan in a folder of its own inside the reproduction's, so that all of them can be opened, and a
killed reproduction goes on where it was.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import UsageError
from interp.findings import Column, Findings, Sheet
from interp.papers.claims import Check, Evidence, Outcome, Paper, Run
from interp.registry import FINDERS, PAPERS
from interp.runs import progress as reporting
from interp.runs import provenance
from interp.runs.lock import locked
from interp.runs.memory_run import refuse_too_little, sized
from interp.runs.plan import plan
from interp.runs.result import ScanResult
from interp.runs.run import Request, Tally, claim, distinct_names
from interp.runs.scan import default_folder, load_checked, new_record, run_in, scan, written_on
from interp.runs.settings import make_config
from interp.runs.store import RunFolder
from probes.base import Prompt

EACH = 8
"""So many prompts of each probe, where there are several."""
COLUMNS = (
    Column("claim", "string", "claim", "Short name of the claim."),
    Column("verdict", "string", "verdict", "Whether it holds for this model on these prompts, by the rule beside it."),
    Column("measured", "string", "measured here", "The figure measured here, with its 95 % bootstrap interval."),
    Column("published", "string", "published", "The published figure, with the models it is of."),
    Column("statement", "string", "the paper says", "The claim in one sentence."),
    Column("rule", "string", "rule", "When the verdict is: holds."),
    Column("why", "string", "why", "What failed, or what is missing."),
    Column("value", "float64", "value", "The measured figure the rule goes by."),
    Column("low", "float64", "low", "Lower end of its interval."),
    Column("high", "float64", "high", "Upper end of its interval."),
    Column("prompts", "Int64", "prompts", "How many prompts it rests on."),
)


@dataclass(frozen=True)
class Settings:
    """What a reproduction is made of; part of its key."""

    paper: str
    runs: tuple[tuple[str, str, tuple[tuple[str, Any], ...]], ...]


@dataclass(frozen=True)
class _Named:
    """Stands where a run's record expects the finder."""

    name: str
    version: str


def reproduce(
    paper: str,
    model: Any,
    *,
    texts: Any = None,
    text_files: Any = None,
    prompts: str | os.PathLike[str] | Sequence[Prompt] | None = None,
    probe: str | None = None,
    probe_set: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    limit: int | None = None,
    out: str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    fresh: bool = False,
    progress: bool = True,
    command: str | None = None,
    memory: str | int | None = None,
    engine: str = "auto",
    **options: Any,
) -> ScanResult:
    """Put a paper's claims to the test on a model.

    Args:
        paper: name of a registered paper (``wong2025``, ``gu2024``, ``wu2024``, ``wang2022``,
            ``merullo2023``).
        model: anything `interp.load` takes.
        texts, text_files, prompts, probe, probe_set: as for `interp.scan` with the paper's first finder. No source of
            prompts: the paper's probes. A paper about several tasks brings its own for each run.
        max_length, limit, seed, fresh, progress, command, memory, engine: as for `interp.scan`; `limit` counts the
            prompts of all, or those of each run where the runs have their own.
        config: settings to change, in every run whose finder has them; the page says so.
        out: folder; default ``reproduce-<paper>-<model>-<key>``. The paper's runs lie in folders inside it.
        options: ``generate``, and keywords of `interp.load`.

    Returns:
        a `ScanResult`: one row a claim; ``findings.summary["checks"]`` holds the run's own checks.

    Raises:
        UsageError, LoadError, SelfCheckError, RunFolderError: as `interp.scan`.
    """
    chosen: Paper = PAPERS.get(paper)
    given = {"texts": texts, "text_files": text_files, "prompts": prompts, "probe": probe}
    brought = any(one is not None for one in given.values())
    if chosen.tasks and (brought or probe_set or options.get("generate")):
        tasks = dict.fromkeys(probe for probe, _ in chosen.tasks)
        raise UsageError(
            f"{chosen.name} is about {' and '.join(tasks)}, and each run brings its own prompts; leave out "
            "texts, prompts, probe, probe settings and generate"
        )
    common = {"max_length": max_length, "limit": limit, "seed": seed, "memory": memory, "engine": engine, **options}
    runs = changed(chosen.runs, config or {})
    sources: list[dict[str, Any]] = [{"probe": name, "probe_set": dict(settings)} for name, settings in chosen.tasks]
    if not sources:
        from_probes = [{"probe": name} for name in chosen.probes]
        sources = [{**source, "probe_set": probe_set} for source in ([given] if brought else from_probes)]
    plans = [plan(runs[0].finder, config=dict(runs[0].settings), **source, **common) for source in sources]
    if out is not None:
        RunFolder(out).prepare()
    started = provenance.now()
    with reporting.choose(quiet=not progress) as told:
        try:
            for one in plans:
                refuse_too_little(one, model)
            loaded, checked = load_checked(model, plans[0].load_options, told)
            groups = [one.prompts(loaded) for one in plans]
        except BaseException:
            if out is not None:
                RunFolder(out).leave()
            raise
        by_task = dict(zip(chosen.tasks, groups, strict=True)) if chosen.tasks else {}
        ready = distinct_names([one for group in groups for one in group]) if by_task else _together(groups, limit)
        made = tuple((one.name, one.finder, tuple(sorted(one.settings.items()))) for one in runs)
        name = _Named(f"reproduce-{chosen.name}", chosen.version)
        request = Request(loaded, name, Settings(chosen.name, made), ready, plans[0].generate)
        folder = RunFolder(default_folder(request) if out is None else out)
        folder.prepare()
        told.say(f"{chosen.citation}; {loaded.name}, {len(ready)} prompts; folder: {folder.path}")
        with locked(folder.path):
            claim(folder, request, fresh)
            record, tally = new_record(plans[0], request, checked, started, command), Tally()
            with sized(plans[0], request, told, record):
                request = written_on(request, folder, told, record, tally)

            def work(_: Any) -> Findings:
                findings, ready = {}, request.prompts
                for one in runs:
                    told.say(f"run {one.name}")
                    mine = ready if one.task is None else by_task[one.task]
                    findings[one.name] = scan(
                        loaded,
                        one.finder,
                        prompts=mine,
                        max_length=max(len(prompt) for prompt in mine),
                        config=dict(one.settings),
                        keep_arrays=len(mine) if one.keep_arrays else None,
                        seed=seed,
                        out=folder.path / one.name,
                        fresh=fresh,
                        progress=progress,
                        memory=memory,
                        engine=engine,
                        command=record["provenance"]["command"],
                        bos=loaded.bos,
                        chat=loaded.chat,
                    ).findings
                return judged(replace(chosen, caveats=(*chosen.caveats, *told_of(config))), loaded, ready, findings)

            return run_in(request, folder, told, record, work, tally)


def _together(groups: Sequence[Sequence[Prompt]], limit: int | None) -> tuple[Prompt, ...]:
    """The prompts of one source, or the first `EACH` of several, as many of each as `limit` allows."""
    if len(groups) == 1:
        return tuple(groups[0])
    each = EACH if limit is None else -(-limit // len(groups))
    return distinct_names([prompt for group in groups for prompt in group[:each]][:limit])


def changed(runs: Sequence[Run], settings: Mapping[str, Any]) -> list[Run]:
    """The runs with settings changed where their finders have them.

    Raises:
        UsageError: one that no finder has, or a value that its type refuses.
    """
    types = [FINDERS.get(one.finder).config_type for one in runs]
    fields = [{field.name for field in dataclasses.fields(kind)} for kind in types]
    nowhere = {name: value for name, value in settings.items() if not any(name in known for known in fields)}
    if nowhere:
        make_config(types[0], nowhere, runs[0].finder)
    made = []
    for one, kind, known in zip(runs, types, fields, strict=True):
        fitting = {name: value for name, value in settings.items() if name in known}
        parsed = make_config(kind, {**one.settings, **fitting}, one.finder)
        made.append(replace(one, settings={**one.settings, **{name: getattr(parsed, name) for name in fitting}}))
    return made


def told_of(settings: Mapping[str, Any] | None) -> list[str]:
    """That settings were changed, as a caveat."""
    pairs = ", ".join(f"{name}={value}" for name, value in (settings or {}).items())
    return [f"Settings of the runs were changed: {pairs}."] if pairs else []


def judged(paper: Paper, model: Any, prompts: Sequence[Prompt], findings: Mapping[str, Findings]) -> Findings:
    """The claims' verdicts and the run's own checks, with what the runs drew."""
    evidence = Evidence(
        findings, model.name, model.source.hub_id, model.n_layers, model.sites.structure.positions, len(prompts)
    )
    outcomes = [one.judge(evidence) for one in paper.claims]
    rows = [
        {
            "claim": one.name,
            "statement": one.statement,
            "published": one.published,
            "rule": one.rule,
            **asdict(outcome),
        }
        for one, outcome in zip(paper.claims, outcomes, strict=True)
    ]
    checks = paper.checks(model, prompts, findings)
    table = pd.DataFrame(rows, columns=[c.name for c in COLUMNS]).astype({c.name: c.dtype for c in COLUMNS})
    sheets = [_checks_sheet(checks)]
    charts = []
    for name, found in findings.items():
        sheets += [
            replace(sheet, name=f"{name}.{sheet.name}", title=f"{name}: {sheet.title}") for sheet in found.sheets
        ]
        charts += [
            replace(chart, name=f"{name}.{chart.name}", title=f"{name}: {chart.title}") for chart in found.charts
        ]
    first = next(iter(findings.values()))
    return Findings(
        finder=f"reproduce-{paper.name}",
        table=table,
        columns=COLUMNS,
        verdict=verdict(paper, model.name, outcomes, checks),
        summary={
            "citation": paper.citation,
            "checks": [asdict(check) for check in checks],
            "passed": all(check.passed for check in checks),
            "runs": {name: {"verdict": found.verdict, "folder": str(Path(name))} for name, found in findings.items()},
        },
        caveats=[*paper.caveats, *_caveats(findings)],
        heatmaps=[heatmap for heatmap in first.heatmaps if heatmap.prompt is None],
        charts=charts,
        sheets=sheets,
        table_title="The claims",
    )


def verdict(paper: Paper, model: str, outcomes: Sequence[Outcome], checks: Sequence[Check]) -> str:
    """How many claims hold, which do not, and whether the run's own checks passed."""
    counts = {kind: sum(one.verdict == kind for one in outcomes) for kind in ("holds", "does not hold")}
    untested = len(outcomes) - sum(counts.values())
    named = {
        kind: [claim.name for claim, one in zip(paper.claims, outcomes, strict=True) if one.verdict == kind]
        for kind in ("does not hold", "cannot be tested here")
    }
    said = [
        f"Of {len(outcomes)} claims of {paper.name}, {counts['holds']} hold{'s' * (counts['holds'] == 1)} in {model} "
        f"on these prompts, {counts['does not hold']} {'does' if counts['does not hold'] == 1 else 'do'} not, and "
        f"{untested} cannot be tested here."
    ]
    said += [f"{kind[0].upper()}{kind[1:]}: {'; '.join(names)}." for kind, names in named.items() if names]
    failed = [check.name for check in checks if not check.passed]
    said.append(
        f"The run's own checks failed, so the verdicts are not to be trusted: {', '.join(failed)}."
        if failed
        else f"The run's own {len(checks)} check{'s' * (len(checks) != 1)} passed."
    )
    return " ".join(said)


def _checks_sheet(checks: Sequence[Check]) -> Sheet:
    columns = (
        Column("check", "string", "check", "What is checked of this run, apart from the paper."),
        Column("passed", "string", "passed", "Whether it passed."),
        Column("told", "string", "measured", "What was seen."),
    )
    rows = tuple((check.name, "yes" if check.passed else "NO", check.told) for check in checks)
    return Sheet("checks", "The run's own checks", columns, rows, "A verdict means something only where these pass.")


def _caveats(findings: Mapping[str, Findings]) -> list[str]:
    """Every caveat of the runs once, with the runs it is of."""
    by_text: dict[str, list[str]] = {}
    for name, found in findings.items():
        for caveat in found.caveats:
            by_text.setdefault(caveat, []).append(name)
    return [
        caveat if len(names) == len(findings) else f"{', '.join(names)}: {caveat}" for caveat, names in by_text.items()
    ]
