"""`edge-tl evaluate MODEL DATA`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import percent, progress, say, say_skipped, table
from edge_tl.cli.options import option_of, options
from edge_tl.training.settings import TrainSettings
from edge_tl_runtime.evaluation.settings import EvaluateSettings
from edge_tl_runtime.inference.settings import PredictSettings

if TYPE_CHECKING:
    from edge_tl_runtime.evaluation.evaluate import Evaluation, Logits
    from edge_tl_runtime.evaluation.unknown import KnownLogits
    from edge_tl_runtime.inference.label_sets import LabelSetRule
    from edge_tl_runtime.modelfile.spec import ModelSpec
    from edge_tl_runtime.robustness.corrupted_accuracy import CorruptedAccuracy

MAX_CONFUSION = 12
MAX_CLASSES = 40


@click.command(short_help="Measure the accuracy of a model on labelled photos.")
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@options(EvaluateSettings, "split")
@option_of(TrainSettings, "weights", "Weights of a backbone that MODEL names.")
@options(EvaluateSettings, without=("split",))
@option_of(
    PredictSettings, "coverage", "Count how often sets of labels for this coverage, such as 0.95, hold the right label."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: str,
    data: Path,
    split: str,
    weights: str,
    corruptions: str | None,
    severities: str,
    seed: int,
    count: int | None,
    coverage: float | None,
    crop: str,
    rotate: int | None,
    flip: str | None,
    fit: str | None,
    as_json: bool,
) -> None:
    """Evaluate MODEL (an ONNX file, a run, or the name of a backbone with its ImageNet head) on the labelled photos of DATA.

    DATA holds a folder for each class (in val/ where there is one), or photos named by class index (0007_name.jpg).
    """
    from edge_tl.api.evaluating import corrupted_on, evaluate_on, named
    from edge_tl.api.reporter import Reporter
    from edge_tl_runtime.images.asked_geometry import AskedGeometry

    report = Reporter(progress, say)
    wanted = None if corruptions is None else named(corruptions, severities)
    asked = AskedGeometry.parse(crop, rotate, flip, fit).single("evaluate")
    spec, logits, known, sets = _open(model, weights, coverage)
    spec, evaluation, photos = evaluate_on(spec, logits, data, split, count, report, known, sets, asked)
    say_skipped(evaluation.skipped, evaluation.n, photos.root, evaluation.adjusted)
    assert evaluation.overlap is not None
    if line := evaluation.overlap.left_out_line():
        say(line)
    corrupted = None if wanted is None else corrupted_on(spec, logits, photos, wanted, seed, report)
    if as_json:
        more = {} if corrupted is None else {"corruptions": corrupted.to_dict()}
        click.echo(json.dumps({**evaluation.to_dict(), **more}, ensure_ascii=False))
        return
    _print(evaluation)
    if corrupted is not None:
        _print_corrupted(corrupted)


def _open(
    model: str, weights: str, coverage: float | None
) -> tuple[ModelSpec, Logits, KnownLogits | None, LabelSetRule | None]:
    """The contract of a model, its scores, what counts the unknown photos, where the file tells them, and its sets.

    By onnxruntime for an ONNX file, by PyTorch for anything else. Raises UsageError for sets of what has none.
    """
    if Path(model).suffix == ".onnx":
        from edge_tl.api.evaluating import known_logits
        from edge_tl_runtime.inference.classifier import Classifier, SessionSettings

        classifier = Classifier(model, SessionSettings(spin=True))
        return classifier.spec, classifier.logits, known_logits(classifier), classifier.label_sets(coverage)
    from edge_tl.training.run_folder import open_run
    from edge_tl_runtime.core.errors import UsageError

    if coverage is not None:
        raise UsageError(
            f"{model} has no label sets, which are made for each exported file: export it and evaluate that file"
        )
    run = open_run(model, weights)
    return run.spec, run.logits, None, None


def _print(evaluation: Evaluation) -> None:
    rows = evaluation.per_class
    shown = rows if len(rows) <= MAX_CLASSES else sorted(rows, key=lambda row: row.recall)[:MAX_CLASSES]
    title = "" if len(rows) <= MAX_CLASSES else f"The {MAX_CLASSES} classes of {len(rows)} with the lowest recall"
    table(
        title,
        ["class", "photos", "recall", "precision"],
        [[row.label, str(row.n), percent(row.recall), percent(row.precision)] for row in shown],
    )
    if len(evaluation.labels) <= MAX_CONFUSION:
        table(
            "Confusion: rows are the truth, columns the answer",
            ["", *evaluation.labels],
            [[label, *(str(count) for count in evaluation.confusion[i])] for i, label in enumerate(evaluation.labels)],
        )
    top5 = "" if evaluation.top5 is None else f", top-5 {percent(evaluation.top5)}"
    click.echo(f"{evaluation.describe()}{top5}; {evaluation.data}")
    if evaluation.reliability is not None:
        click.echo(f"expected calibration error {evaluation.reliability.ece:.3f}")
    if evaluation.unknown is not None:
        click.echo(evaluation.unknown.describe())
    if evaluation.coverage is not None:
        click.echo(evaluation.coverage.describe())
    for line in evaluation.overlap.lines() if evaluation.overlap else ():
        click.echo(line)


def _print_corrupted(found: CorruptedAccuracy) -> None:
    rows = [
        [
            name,
            *(percent(hits.rate) for hits in levels.values()),
            percent(found.mean(name)),
            f"{100 * found.error_over_clean(name):+.1f}",
        ]
        for name, levels in found.by.items()
    ]
    columns = ["", *map(str, found.severities), "mean", "error over clean"]
    table("Top-1 under corruptions, by severity; the last column in points", columns, rows)
    clean = found.clean
    low, high = clean.ci95
    click.echo(
        f"clean {percent(clean.rate)} ({clean.count} of {clean.n}, 95 % interval {100 * low:.1f} to {100 * high:.1f}) "
        "on the photos that were corrupted"
    )
    for title, names in {**found.sets, "all of these": found.names}.items():
        low, high = found.mean_ci95(*names)
        ratio = found.error_ratio(*names)
        click.echo(
            f"mean corrupted accuracy, {title}: {percent(found.mean(*names))} (interval {100 * low:.1f} to "
            f"{100 * high:.1f}), error {100 * found.error_over_clean(*names):+.1f} points"
            + ("" if ratio is None else f", {ratio:.2f} times the clean error")
        )
