"""The run folder: what training leaves behind.

    model.safetensors   weights by the library's own tensor names; the contract is in the file's header
    spec.json           the contract, to read
    settings.json       what was asked for, versions, data set
    settings.toml       what was asked for, as `edge-tl train --settings` takes it
    metrics.jsonl       one JSON object a line: features, probe, each epoch
    log.txt             what was printed, with times
    logits.npz          logits for the validation and test photos, with their names and classes
    report.html         the run's page

While a training is under way, and after it was interrupted, also

    resume.json         what was asked for, and of which photos
    checkpoint.pt       the state after the last complete epoch of fine-tuning

The weights file alone is the run: it is written in one step, so a run is whole or is not there.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edge_tl.models import Network, WeightsSource, build_network, find_backbone, is_backbone
from edge_tl.models.network import restore_network
from edge_tl.models.weights import CONTRACT_KEY
from edge_tl.training import settings_file
from edge_tl.training.settings import TrainSettings
from edge_tl_export import PixelModel
from edge_tl_runtime.core.errors import BadModelError, OutputError, UsageError
from edge_tl_runtime.core.files import make_folder, write_bytes, write_text, write_together
from edge_tl_runtime.core.text import shell_command
from edge_tl_runtime.modelfile.onnx import RUN_WEIGHTS
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl.training.documents import AskedTrainingDocument, ResumeDocument, RunSettingsDocument

WEIGHTS = RUN_WEIGHTS
SPEC = "spec.json"
SETTINGS = "settings.json"
ASKED = settings_file.FILE
METRICS = "metrics.jsonl"
LOG = "log.txt"
LOGITS = "logits.npz"
EARLIER_LOGITS = "judged.npz"
"""What earlier releases called it; such runs are still read."""
REPORT = "report.html"
RESUME = "resume.json"
CHECKPOINT = "checkpoint.pt"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class StoredRun:
    """A trained network with its contract. settings: the content of settings.json, {} when it is not there."""

    folder: Path
    network: Network
    spec: ModelSpec
    settings: dict[str, Any]

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores by PyTorch on the CPU, float32 (N, C), for pixels uint8 (N, H, W, 3)."""
        model = PixelModel(self.network.module.eval(), self.network.backbone.normalization)
        return model.infer(pixels)


def check_output(folder: Path) -> None:
    """Raises before any work is done: UsageError when `folder` holds something else, OutputError when it cannot be written."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder for the run with -o")
    ours = {
        WEIGHTS,
        SPEC,
        SETTINGS,
        ASKED,
        METRICS,
        LOG,
        METRICS + _PARTIAL,
        LOG + _PARTIAL,
        LOGITS,
        EARLIER_LOGITS,
        REPORT,
        RESUME,
        CHECKPOINT,
    }
    foreign = [] if not folder.is_dir() or (folder / WEIGHTS).is_file() else {p.name for p in folder.iterdir()} - ours
    if foreign:
        raise UsageError(f"{folder} holds other files and no run; give a new or empty folder with -o")
    make_folder(folder)
    probe = folder / ".writable"
    write_text(probe, "")
    probe.unlink()


def _training_into(folder: Path) -> str:
    """The command that makes a run, in `folder` where `check_output` would take it."""
    taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    return shell_command("train", "DATA", "-o", "RUN" if taken else folder)


def load_run(path: Path) -> StoredRun:
    """Open a run folder, or its weights file. Raises UsageError when it is not one, BadModelError when it is damaged."""
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{path} is not a run: it has no {WEIGHTS}; make one with: {_training_into(path)}")
    try:
        with safe_open(file, framework="pt") as content:
            spec_text = (content.metadata() or {}).get(CONTRACT_KEY)
            state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadModelError(f"{file} is damaged ({error}); train again or restore a copy") from None
    if spec_text is None:
        raise BadModelError(f"{file} has no edge-tl contract in its header; use it as weights: --weights {file}")
    spec = ModelSpec.from_json(spec_text)
    network = restore_network(find_backbone(spec.arch).with_rule(spec.resize), state, spec.labels, str(file))
    settings = file.parent / SETTINGS
    try:
        return StoredRun(file.parent, network, spec, json.loads(settings.read_text()) if settings.is_file() else {})
    except ValueError:
        raise BadModelError(f"{settings} is not JSON; train again or restore a copy") from None


def open_run(name: str, weights: str = TrainSettings.weights) -> StoredRun:
    """A run folder, its weights file, or a backbone by name with its published head and `weights`."""
    path = Path(name)
    if not path.exists() and is_backbone(name):
        return published_run(name, weights)
    if not path.exists():
        raise UsageError(f"no run at {name}, and no backbone of that name; make one with: {_training_into(path)}")
    return load_run(path)


def published_run(arch: str, weights: str) -> StoredRun:
    """A backbone with its published 1000-class head, as if it had been trained here. Raises WeightsError, UsageError."""
    backbone = find_backbone(arch)
    if backbone.plain is not None:
        raise UsageError(
            f"{arch} has no weights of its own; make them with: "
            f"edge-tl train DATA --arch {backbone.plain.name} --edge-friendly"
        )
    network = build_network(backbone, WeightsSource.parse(weights, backbone))
    if not network.labels:
        raise UsageError(
            f"{arch} with weights {weights!r} has no head with known classes; train it first: edge-tl train"
        )
    spec = ModelSpec(
        labels=network.labels,
        resize=backbone.resize,
        normalization=backbone.normalization,
        arch=arch,
        training={"weights": network.weights, "weights_sha256": network.weights_sha256, "license": backbone.license},
    )
    return StoredRun(Path(arch.replace("/", "-")), network, spec, {})


def save_run(
    folder: Path,
    network: Network,
    spec: ModelSpec,
    settings: RunSettingsDocument,
    evaluated: Mapping[str, ValidationLogits],
    asked: TrainSettings,
) -> None:
    """Write all of a run together. evaluated: by part. asked: the settings as they were asked for.

    Raises OutputError and changes nothing when there is no room.
    """
    # Clones, since safetensors refuses tensors that share memory.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.module.state_dict().items()}
    write_together(
        {
            folder / WEIGHTS: save(state, metadata={CONTRACT_KEY: spec.to_json()}),
            folder / SPEC: _readable(spec.to_dict()),
            folder / SETTINGS: _readable(settings),
            folder / ASKED: settings_file.written(asked).encode(),
            folder / LOGITS: _pack(evaluated),
        }
    )
    (folder / EARLIER_LOGITS).unlink(missing_ok=True)


def begin(
    folder: Path,
    data: str,
    settings: AskedTrainingDocument,
    photos: str = "",
    finished: int | None = None,
    keep: bool = False,
) -> None:
    """Note what is being trained, so that it can go on after an interruption; an older interruption is forgotten.

    photos: a digest of them. finished: epochs of the run in `folder` that gets more of them; None for a new one. keep: this is
    the interrupted one itself, whose state stays.
    """
    noted: ResumeDocument = {"data": data, "settings": settings, "photos": photos}
    if finished is not None:
        noted["finished_epochs"] = finished
    write_bytes(folder / RESUME, _readable(noted))
    if not keep:
        (folder / CHECKPOINT).unlink(missing_ok=True)


def interrupted(folder: Path) -> dict[str, Any]:
    """What `begin` noted. Raises UsageError where no training was interrupted."""
    if (folder / RESUME).is_file():
        try:
            noted: dict[str, Any] = json.loads((folder / RESUME).read_text("utf-8"))
        except ValueError:
            raise BadModelError(f"{folder / RESUME} is damaged; start the training anew") from None
        return noted
    if (folder / WEIGHTS).is_file():
        raise UsageError(f"the training in {folder} is complete; there is nothing to resume")
    raise UsageError(f"{folder} holds no interrupted training; start one with: {_training_into(folder)}")


def write_checkpoint(folder: Path, state: bytes) -> None:
    write_bytes(folder / CHECKPOINT, state)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state after the last complete epoch, None before the first. Raises BadModelError when it is damaged."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # torch and zipfile each raise their own types for damage
        raise BadModelError(
            f"{path} is damaged ({type(error).__name__}); remove it and resume: fine-tuning starts anew"
        ) from None
    return content


def finish(folder: Path) -> None:
    """Forget what resuming would need."""
    for name in (RESUME, CHECKPOINT):
        (folder / name).unlink(missing_ok=True)


def _readable(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


@dataclass(frozen=True)
class ValidationLogits:
    """Answers for labelled photos. logits: float32 (N, C); targets: int64 (N,); names: paths relative to the data.

    groups: where each photo stems from, as in the LabelledPhotos; () where nothing is known.
    """

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    names: tuple[str, ...]
    groups: tuple[str, ...] = ()


def _pack(evaluated: Mapping[str, ValidationLogits]) -> bytes:
    arrays: dict[str, NDArray[Any]] = {}
    for part, answers in evaluated.items():
        arrays |= {f"{part}_logits": answers.logits, f"{part}_targets": answers.targets}
        arrays[f"{part}_names"] = _packed(answers.names)
        if answers.groups:
            arrays[f"{part}_groups"] = _packed(answers.groups)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _packed(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\0".join(texts).encode("utf-8", "surrogateescape"), np.uint8)


def _unpacked(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode("utf-8", "surrogateescape").split("\0"))


def read_evaluated(folder: Path) -> dict[str, ValidationLogits]:
    """By part; {} for a run that has none."""
    path = next((folder / name for name in (LOGITS, EARLIER_LOGITS) if (folder / name).is_file()), None)
    if path is None:
        return {}
    try:
        with np.load(path) as arrays:
            return {
                part: ValidationLogits(
                    arrays[f"{part}_logits"],
                    arrays[f"{part}_targets"],
                    _unpacked(arrays[f"{part}_names"]),
                    _unpacked(arrays[f"{part}_groups"]) if f"{part}_groups" in arrays else (),
                )
                for part in ("val", "test")
                if f"{part}_logits" in arrays
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadModelError(f"{path} is damaged ({error}); train again or restore a copy") from None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first."""
    return _records(folder / METRICS)


def _records(path: Path) -> list[dict[str, Any]]:
    records = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # the last line of a killed process may be half a line
            records.append(json.loads(line))
    return records


class Journal:
    """Metrics and log of a run, written as they happen, a line each.

    They carry the ending `.partial` until `finish`, so the records of an interrupted training can be read and those beside
    an older run's weights stay its own.
    """

    def __init__(self, folder: Path, epochs: int | None = None) -> None:
        """epochs: go on with the records of an interrupted training, of which so many epochs count."""
        self._folder = folder
        kept = []
        if epochs is not None:
            for name in (METRICS, LOG):  # a finished run that gets more epochs keeps its records
                if (folder / name).is_file() and not (folder / (name + _PARTIAL)).is_file():
                    write_bytes(folder / (name + _PARTIAL), (folder / name).read_bytes())
            kept = [r for r in _records(folder / (METRICS + _PARTIAL)) if r.get("epoch", 0) <= epochs]
        try:
            self._metrics = open(folder / (METRICS + _PARTIAL), "w", encoding="utf-8")  # noqa: SIM115
            self._log = open(folder / (LOG + _PARTIAL), "w" if epochs is None else "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"cannot write in {folder}: {error.strerror}; choose another with -o") from None
        for record in kept:
            if record.get("stage") == "finetune":
                self.metric(**record)

    def metric(self, **values: Any) -> None:
        self._write(self._metrics, json.dumps(values, ensure_ascii=False))

    def log(self, line: str) -> None:
        self._write(self._log, f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}")

    def close(self) -> None:
        for file in (self._metrics, self._log):
            file.close()

    def finish(self) -> None:
        """Close and take the final names."""
        self.close()
        for name in (METRICS, LOG):
            (self._folder / (name + _PARTIAL)).replace(self._folder / name)

    def _write(self, file: Any, line: str) -> None:
        try:
            file.write(line + "\n")
            file.flush()
        except OSError as error:
            raise OutputError(f"cannot write {file.name}: {error.strerror}; free some space and try again") from None
