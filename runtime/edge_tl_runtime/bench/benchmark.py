"""A whole benchmark: every part in turn, each kept on disk as soon as it is measured, and the document they end in."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import onnxruntime

from edge_tl_runtime.bench.conditions import Watch, utc_now
from edge_tl_runtime.bench.ledger import DiskLedger
from edge_tl_runtime.bench.parts.all_parts import PARTS
from edge_tl_runtime.bench.parts.clean import listing_digest
from edge_tl_runtime.bench.parts.part import Bench, Document, Part
from edge_tl_runtime.bench.result import FORMAT, KIND, with_digest
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.core.progress import Say, Stage, silent
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.evaluation.training_overlap import TrainingOverlap
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.inference.providers import short_name
from edge_tl_runtime.machine.cpu import cpu_features, made_for_target, memory
from edge_tl_runtime.machine.tuning_profile import Machine
from edge_tl_runtime.modelfile.onnx import read_model

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import (
        BenchDataDocument,
        BenchDocument,
        BenchHeaderDocument,
        BenchMachineDocument,
        BenchModelDocument,
        BenchSessionDocument,
        BenchSettingsDocument,
        PartRunDocument,
    )
    from edge_tl_runtime.bench.pack.pack import Pack

UNASKED = "not among --parts"
_LATE = "the time limit came before it"
_SITTINGS = "sittings"


@dataclass(frozen=True, kw_only=True)
class BenchmarkModel:
    """What is measured. pack, photos: None without; photos were drawn from the data already (see `drawn`).

    overlap: what the photos were to the model, None where that was not asked.
    """

    model: Path
    classifier: Classifier
    pack: Pack | None = None
    photos: LabelledPhotos | None = None
    overlap: TrainingOverlap | None = None


def run_benchmark(
    measured_model: BenchmarkModel,
    output: Path,
    settings: BenchSettings,
    stage: Stage,
    say: Say = silent,
    parts: Sequence[Part] = PARTS,
) -> tuple[BenchDocument, DiskLedger]:
    """Measure every part; the document with its checksum, not yet written, and the ledger to discard once it is.

    Goes on with a run of the same that was interrupted beside `output`: parts that were finished are kept, a part of the speed
    that was interrupted starts anew. Raises UsageError for parts that do not exist and for an unfinished run of something else,
    BadPackError for a pack of another model, and what the parts raise.
    """
    pack = measured_model.pack
    settings = settings.shortened().comparable(pack.epsilons if pack is not None and pack.norm == "linf" else ())
    check_names(settings, parts)
    if pack is not None:
        pack.require_fits(measured_model.classifier.spec)
    started = time.monotonic()
    document = _header(measured_model, settings)
    ledger = DiskLedger(output, _identity(document))
    if ledger.resumed:
        say(f"going on with the run that was interrupted beside {output}")
    sittings = (ledger.get(_SITTINGS) or {"started": []})["started"] + [utc_now()]
    ledger.put(_SITTINGS, {"started": sittings})

    def stop() -> bool:
        return 0 < settings.time_limit <= (time.monotonic() - started) / 60

    bench = Bench(
        model=measured_model.model,
        classifier=measured_model.classifier,
        settings=settings,
        pack=measured_model.pack,
        photos=measured_model.photos,
        ledger=ledger,
        stop=stop,
        progress=silent,
    )
    measured, runs, absent, in_time = _measure(bench, ledger, parts, stage)
    whole = in_time and all(part.get("complete", True) for part in measured.values())
    ends = {"started": sittings[0], "ended": utc_now(), "sittings": len(sittings), "complete": whole}
    return with_digest({**document, **ends, "parts": measured, "runs": runs, "absent": absent}), ledger


def check_names(settings: BenchSettings, parts: Sequence[Part] = PARTS) -> None:
    """Raises UsageError for a part that was asked for and does not exist."""
    known = [part.name for part in parts]
    for name in settings.wanted():
        if name not in known:
            raise UsageError(f"no part of the benchmark is called {name!r}; there are {', '.join(known)}")


def _measure(
    bench: Bench, ledger: DiskLedger, parts: Sequence[Part], stage: Stage
) -> tuple[dict[str, Document], dict[str, PartRunDocument], dict[str, str], bool]:
    """Documents of the parts, under what conditions each was measured, why others were not, and whether time was left for all."""
    wanted = bench.settings.wanted()
    # Asked of all before the first is measured: what is wrong with the request shows at once.
    absent = {part.name: _reason(part, bench, wanted) for part in parts}
    absent = {name: why for name, why in absent.items() if why}
    measured: dict[str, Document] = {}
    runs: dict[str, PartRunDocument] = {}
    in_time = True
    for part in parts:
        if part.name in absent:
            continue
        stored = ledger.get(f"part {part.name}")
        if stored is None:
            if bench.stop():
                absent[part.name], in_time = _LATE, False
                continue
            watch = Watch()
            with stage(part.title, part.pieces(bench)) as done:
                document = part.run(replace(bench, progress=done))
            # As it comes back from the disk, so that a result does not show in how many sittings it was made.
            stored = json.loads(json.dumps({"document": document, "run": watch.to_dict()}))
            if document.get("complete", True):
                ledger.put(f"part {part.name}", stored)
        measured[part.name], runs[part.name] = stored["document"], stored["run"]
    return measured, runs, absent, in_time


def _reason(part: Part, bench: Bench, wanted: Sequence[str]) -> str:
    return UNASKED if wanted and part.name not in wanted else part.absent(bench)


def _identity(header: BenchHeaderDocument) -> Document:
    return {**header, "settings": BenchSettings(**header["settings"]).identity()}


def _header(measured_model: BenchmarkModel, settings: BenchSettings) -> BenchHeaderDocument:
    """What figures depend on, known before anything is measured."""
    pack, photos = measured_model.pack, measured_model.photos
    return {
        "format": FORMAT,
        "kind": KIND,
        "model": _model(measured_model),
        "pack": None
        if pack is None
        else {"name": one_line(pack.path.name), "sha256": pack.sha256, "photos": len(pack.photos)},
        "data": None if photos is None else _data(photos, measured_model.overlap),
        "session": _session(measured_model.classifier),
        "machine": _machine(),
        "versions": _versions(),
        "settings": cast("BenchSettingsDocument", asdict(settings)),
    }


def _model(measured_model: BenchmarkModel) -> BenchModelDocument:
    data, spec = read_model(measured_model.model), measured_model.classifier.spec
    return {
        "name": one_line(measured_model.model.name),
        "sha256": sha256(data),
        "bytes": len(data),
        "arch": spec.arch,
        "precision": spec.precision,
        "target": made_for_target(spec),
        "labels": len(spec.labels),
        "input": [spec.resize.height, spec.resize.width],
        "parent_sha256": spec.parent_sha256,
    }


def _data(photos: LabelledPhotos, overlap: TrainingOverlap | None) -> BenchDataDocument:
    """digest: of the photos' names and classes, in order; their bytes are not read."""
    return {
        "name": one_line(photos.root.resolve().name),
        "split": photos.split,
        "photos": len(photos),
        "digest": listing_digest((photos.name(i), target) for i, target in enumerate(photos.targets)),
        "training_overlap": None if overlap is None else overlap.to_dict(),
    }


def _session(classifier: Classifier) -> BenchSessionDocument:
    """provider: the one that onnxruntime took; asked: the one in the settings."""
    settings = classifier.settings
    return {
        "provider": short_name(classifier.session.get_providers()[0]),
        "asked": settings.provider,
        "threads": settings.threads or usable_cores(),
        "spin": settings.spin,
    }


def _machine() -> BenchMachineDocument:
    here = Machine.here()
    return {
        "cpu": here.cpu,
        "cores": here.cores,
        "target": here.target,
        "providers": list(here.providers),
        "features": list(cpu_features()),
        "memory_bytes": memory()[0],
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "all_cores": os.cpu_count() or 1,
    }


def _versions() -> dict[str, str]:
    try:
        own = version("edge-tl")
    except PackageNotFoundError:  # run from its sources
        own = "unknown"
    return {
        "edge-tl": own,
        "onnxruntime": str(onnxruntime.__version__),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
    }
