"""How fast, how good and how robust a model file is on this machine, as one call."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.results import BenchResult
from edge_tl.api.settings import PathLike, settings_of
from edge_tl_runtime.bench.benchmark import BenchmarkModel, run_benchmark
from edge_tl_runtime.bench.pack.pack import Pack
from edge_tl_runtime.bench.result import write_result
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.bench.signature import private_key, signed
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.evaluation.evaluate import photos_to_evaluate
from edge_tl_runtime.evaluation.settings import EvaluateSettings
from edge_tl_runtime.evaluation.training_overlap import unseen
from edge_tl_runtime.inference.settings import OpenSettings
from edge_tl_runtime.machine.open_classifier import open_classifier


def bench(
    model: PathLike,
    pack: PathLike | None = None,
    output: PathLike | None = None,
    *,
    data: PathLike | None = None,
    split: str = EvaluateSettings.split,
    threads: int | None = None,
    provider: str | None = None,
    profile: bool = OpenSettings.profile,
    sign: PathLike | None = None,
    progress: bool | Reporter = False,
    **settings: Any,
) -> BenchResult:
    """Measure a model file on this machine and write the result; as `edge-tl bench`.

    Close other programs first. Interrupted, the same call goes on. pack: of `edge_tl.pack`, for accuracy and robustness; or
    data: labelled photos. output: the file for the result; None: bench-NAME.json. sign: an Ed25519 key, PEM. settings: fields
    of `edge_tl_runtime.bench.settings.BenchSettings`, such as quick, seconds, parts.
    Raises UsageError, BadModelError, BadPackError, DataError, OutputError.
    """
    made, report, path = settings_of(BenchSettings, settings, "bench"), reporter(progress), Path(model)
    if pack is not None and data is not None:
        raise UsageError("give a pack or data, not both")
    # A key that cannot be used is known before anything is measured.
    signing = None if sign is None else partial(signed, key=private_key(Path(sign)))
    classifier = open_classifier(path, threads, provider, profile, "frame", None, report.say)
    photos = overlap = None
    if data is not None:
        photos = photos_to_evaluate(classifier.spec, Path(data), split)
        report.say(photos.describe())
        count = made.shortened().photos
        photos, overlap = unseen(photos, classifier.spec, split, lambda rest: rest.spread(count))
        for line in filter(None, (overlap.left_out_line(), *overlap.lines())):
            report.say(line)
    opened = None if pack is None else Pack.open(Path(pack))
    if opened is not None:
        # A result names the pack by its digest, so all of it must be what was packed, also what this run does not use.
        opened.archive.verify()
    measured = BenchmarkModel(model=path, classifier=classifier, pack=opened, photos=photos, overlap=overlap)
    target = Path(f"bench-{path.stem}.json") if output is None else Path(output)
    found, ledger = run_benchmark(measured, target, made, report.stage, report.say)
    document: dict[str, Any] = dict(found)
    document = document if signing is None else signing(document)
    write_result(target, document)
    if document["complete"]:
        ledger.discard()
    return BenchResult(target, document)
