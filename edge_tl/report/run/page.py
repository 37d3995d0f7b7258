"""The page of a run: what it learned, how sure it is, and where it errs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_tl.report.common.html import picture, render
from edge_tl.report.run import plots
from edge_tl.report.run.gradcam import grad_cam, overlay
from edge_tl.training.run_folder import REPORT, StoredRun, ValidationLogits, load_run, read_evaluated, read_metrics
from edge_tl_runtime.core.errors import BadFrame, BadImage, UsageError
from edge_tl_runtime.core.files import write_text
from edge_tl_runtime.core.statistics import rate
from edge_tl_runtime.evaluation.evaluate import Evaluation, score
from edge_tl_runtime.evaluation.reliability import reliability
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.modelfile.spec import Scores

MISTAKES = 12
MAX_MATRIX = 60
THUMBNAIL = 156


@dataclass(frozen=True)
class Mistake:
    """A photo and the wrong answer. images: data URIs of the photo and of what spoke for the answer."""

    name: str
    answer: str
    truth: str
    confidence: float
    images: tuple[str, ...]


def write_page(folder: Path) -> Path:
    """Write `report.html` into a run. Raises UsageError for a run without stored answers, BadModelError for a damaged one."""
    run, evaluated, records = load_run(folder), read_evaluated(folder), read_metrics(folder)
    if "val" not in evaluated:
        raise UsageError(f"{folder} has no stored answers to show; train it again with this release")
    part = "test" if "test" in evaluated else "val"
    answers = evaluated[part]
    evaluations = {name: _evaluation(run, evaluated[name]) for name in evaluated}
    temperature = run.spec.scores.temperature
    before, after = (
        reliability(Scores(temperature=value).probabilities(answers.logits), answers.targets)
        for value in (1.0, temperature)
    )
    matrix = None
    if len(run.spec.labels) <= MAX_MATRIX:
        matrix = plots.confusion_matrix(evaluations[part].confusion, run.spec.labels)
    data = Path(run.settings.get("data", ""))
    base = data.parent if data.is_file() else data
    mistakes = tuple(_mistakes(run, answers, base))
    wrong = int((answers.logits.argmax(1) != answers.targets).sum())
    page = render(
        "run.html.j2",
        version=version("edge-tl"),
        name=folder.resolve().name,
        spec=run.spec,
        parts=evaluations,
        temperature=temperature,
        before=before,
        after=after,
        curves=plots.curves({"": records}),
        rate_search=plots.rate_search(records),
        candidates=[record for record in records if record["stage"] == "candidate"],
        reliability=plots.reliability_diagram(before, after, temperature),
        confusion=matrix,
        answers_part={"val": "validation", "test": "test"}[part],
        answers_n=len(answers.targets),
        mistakes=mistakes,
        wrong=wrong,
        photos_base=base,
        per_class=[
            (row.label, rate(row.correct, row.n), rate(row.correct, row.predicted))
            for row in sorted(evaluations[part].per_class, key=lambda row: (row.recall, row.label))
        ],
        settings=flat(run.settings),
    )
    write_text(folder / REPORT, page)
    return folder / REPORT


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = round(value, 3) if isinstance(value, float) and value > 1 else value
    return out


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Keys of flat settings whose values are not the same everywhere, with the value of each; "" where there is none."""
    keys = dict.fromkeys(key for one in settings for key in one)
    values = {key: [one.get(key, "") for one in settings] for key in keys}
    return {key: cells for key, cells in values.items() if len(set(map(repr, cells))) > 1}


def _evaluation(run: StoredRun, answers: ValidationLogits) -> Evaluation:
    return score(answers.logits, answers.targets, run.spec.labels, "", groups=answers.groups)


def _mistakes(run: StoredRun, answers: ValidationLogits, base: Path) -> Iterator[Mistake]:
    """The most confident first; photos that are gone are passed over."""
    probabilities = run.spec.scores.probabilities(answers.logits)
    guesses = probabilities.argmax(1)
    wrong = np.flatnonzero(guesses != answers.targets)
    model = run.network.pixel_model(torch.device("cpu"))
    shown = 0
    for index in wrong[np.argsort(-probabilities[wrong, guesses[wrong]])]:
        try:
            pixels = crop_resize(read_photo(base / answers.names[index]), run.spec.resize)
        except (BadImage, BadFrame):
            continue
        frame = np.ascontiguousarray(pixels[:, :, ::-1]) if run.spec.resize.color_order == "RGB" else pixels
        heat = overlay(frame, grad_cam(model, pixels, int(guesses[index])))
        yield Mistake(
            answers.names[index],
            run.spec.labels[guesses[index]],
            run.spec.labels[answers.targets[index]],
            float(probabilities[index, guesses[index]]),
            (picture(frame, THUMBNAIL), picture(heat, THUMBNAIL)),
        )
        shown += 1
        if shown == MISTAKES:
            return
