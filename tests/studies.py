"""Small studies, and what runs would leave in them that nobody trained."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlperc.study.findings import Finding, Found, findings
from rlperc.study.jobs import Job, jobs_of, plan
from rlperc.study.plan import Study

# The smallest recipe there is: two steps of batch 2 for each stage.
RECIPE = """\
model: {tiny: {hidden_size: 24, text_layers: 1}}
data: {world: digits, rows: 4, with: {grid: 1}}
train: {max_steps: 2, per_device_train_batch_size: 2, gradient_checkpointing: false, save_strategy: "no"}
stages: [{name: see, kind: sft}, {name: warm, kind: sft}]
evaluate: {data: {split: test, rows: 2}, max_new_tokens: 4, batch_size: 2, samples: 0, after: [see, warm]}
"""
STUDY: dict[str, Any] = {
    "about": "Does warming help?",
    "seeds": [0, 1],
    "cases": {"one": {"recipes": {"sft": "small.yaml"}, "words": {"rate": "1e-3"}}},
    "runs": {
        "base": {"recipe": "sft", "stages": ["see"]},
        "plain": {"recipe": "sft", "from": "base", "stages": ["warm"]},
    },
    "claims": [{"says": "Warming gains", "kind": "gain", "of": "plain", "over": "base"}],
    "bars": {"Both": ["base", "plain"]},
    "curves": [{"over": "steps", "runs": {"base": None, "plain": 2}}],
}
CLAIMS: dict[str, dict[str, Any]] = {
    "gain": {"says": "Warming gains", "kind": "gain", "of": "plain", "over": "base"},
    "choice": {"says": "Warming gains", "kind": "choice", "of": {"agreement": "plain"}, "asked": "base", "over": "base"},
    "coupling": {"says": "Warming gains", "kind": "coupling", "run": "plain", "stage": "warm"},
    "gap": {"says": "Warming gains", "kind": "gap", "of": "plain", "over": "base"},
}

GAIN = {"says": "It gains", "kind": "gain", "of": "fixed", "over": "plain"}


def changed(*changes: tuple[str, Any], study: Mapping[str, Any] = STUDY) -> dict[str, Any]:
    """A study's data with other values under some dotted places."""
    whole = copy.deepcopy(dict(study))
    for place, value in changes:
        node: Any = whole
        *parents, last = (int(word) if word.isdigit() else word for word in place.split("."))
        for word in parents:
            node = node[word]
        node[last] = value
    return whole


def write(folder: Path, study: Mapping[str, Any] = STUDY, recipe: str = RECIPE) -> Path:
    """The study's file, with its recipe beside it."""
    (folder / "small.yaml").write_text(recipe)
    file = folder / "study.yaml"
    file.write_text(json.dumps(dict(study), ensure_ascii=False, indent=1))  # which is YAML, too
    return file


def recipes_of(study: Study, out: Path) -> dict[Job, str]:
    """Every job's recipe, planned in another folder, where nothing can be refused."""
    elsewhere = out.with_name(f"{out.name}-elsewhere")
    texts = plan(study, jobs_of(study, elsewhere), out.parent).values()
    return {job: text.replace(str(elsewhere), str(out)) for job, text in zip(jobs_of(study, out), texts, strict=True)}


def study_of(*claims: Mapping[str, Any], runs: str = "plain fixed", seeds: int = 3, cases: str = "one", **more: Any) -> Study:
    """A study without files: each of its runs is made in each of its cases."""
    return Study.model_validate(
        {
            "about": "a study",
            "seeds": list(range(seeds)),
            "cases": {case: {"recipes": {"sft": "small.yaml"}} for case in cases.split()},
            "runs": {run: {"recipe": "sft", "stages": ["warm"]} for run in runs.split()},
            "claims": [dict(claim) for claim in claims],
            **more,
        }
    )


Percents = Sequence[float | None]


def measured(case: str = "one", /, **runs: Percents | Mapping[str, Percents]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """What runs measured, in percent: `a`, or several measures, seed by seed; None where that seed is not done."""
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for run, of in runs.items():
        for measure, values in (of if isinstance(of, Mapping) else {"a": of}).items():
            for seed, value in enumerate(values):
                if value is not None:
                    found.setdefault((case, run, seed), summary())["eval"]["after"][measure] = value / 100
    return found


def summary(**after: float) -> dict[str, Any]:
    """What a run leaves that is done, as far as a study reads it."""
    return {"status": "done", "seconds": 60.0, "eval": {"after": dict(after)}, "coupling": {}}


def moves(stage: str = "warm", /, **surrogates: float | None) -> dict[str, Any]:
    """The coupling of a stage: how its rewards move with `perception_exact`, which itself does so by 1."""
    names = ["answer_number", "perception_exact", *surrogates]
    row = [0.4, 1.0, *surrogates.values()]
    matrix = [row if name == "perception_exact" else [None] * len(names) for name in names]
    return {stage: {"rewards": names, "roles": {"perception": "perception_exact"}, "matrix": matrix, "null": {}}}


def outcomes(
    reasoning: float | None, perception: float | None, null: tuple[float | None, float | None] = (0.6, 0.4)
) -> dict[str, Any]:
    """The coupling of a stage `warm`: what the outcome moves with, and what independence would give."""
    seen = (("reasoning", reasoning, null[0]), ("perception", perception, null[1]))
    within = {name: {"observed": observed, "independent": independent} for name, observed, independent in seen}
    return {"warm": {**moves()["warm"], "null": {"n": 8, "within": within}}}


def leave(job: Job, found: Mapping[str, Any], weights: Sequence[float] = ()) -> None:
    """A job's folder as a training would leave it, with λ for each step that it chose one."""
    job.folder.mkdir(parents=True)
    (job.folder / "summary.json").write_text(json.dumps(found))
    lines = [{"kind": "train", "stage": "warm", "step": k, "reweight/lambda": value} for k, value in enumerate(weights, 1)]
    (job.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def one(claim: dict[str, Any], done: dict[Any, Any], **more: Any) -> Finding:
    """What becomes of a claim."""
    (found,) = findings(study_of(claim, **more), done)
    return found


def found_in(finding: Finding, case: str = "one") -> Found:
    return finding.found[case]


def values(finding: Finding, case: str = "one") -> list[float]:
    spread = finding.found[case].spread
    return [] if spread is None else [round(value, 9) for value in spread.values]


def processes(word: str) -> dict[int, str]:
    """The command lines in which a word stands, of all processes that run, by number; not this one's."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word in line and state != "Z" and int(place.name) != os.getpid():
            found[int(place.name)] = line
    return found


def descendants(number: int) -> set[int]:
    """The processes that a process has begun, and theirs."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    found = {number}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {number}


def until(holds: Callable[[], Any], seconds: float = 60) -> bool:
    """Wait until something holds; false where it never did."""
    limit = time.monotonic() + seconds
    while not (found := bool(holds())) and time.monotonic() < limit:
        time.sleep(0.05)
    return found
