"""The run folder: what training leaves behind.

    model.safetensors   weights by the library's own tensor names; the contract is in the file's header
    spec.json           the contract, to read
    settings.json       what was asked for, versions, data set
    metrics.jsonl       one JSON object a line: features, probe, each epoch
    log.txt             what was printed, with times

The weights file alone is the run: it is written in one step, so a run is whole or is not there.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edge_tl.models import Network, WeightsSource, build_network, find_backbone, is_backbone
from edge_tl.models.network import restore_network
from edge_tl_export import PixelModel
from edge_tl_runtime.errors import BadModelError, OutputError, UsageError
from edge_tl_runtime.files import make_folder, write_text, write_together
from edge_tl_runtime.spec import ModelSpec

WEIGHTS = "model.safetensors"
SPEC = "spec.json"
SETTINGS = "settings.json"
METRICS = "metrics.jsonl"
LOG = "log.txt"
_SPEC_KEY = "edge_tl.spec"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Run:
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
    ours = {WEIGHTS, SPEC, SETTINGS, METRICS, LOG, METRICS + _PARTIAL, LOG + _PARTIAL}
    foreign = [] if not folder.is_dir() or (folder / WEIGHTS).is_file() else {p.name for p in folder.iterdir()} - ours
    if foreign:
        raise UsageError(f"{folder} holds other files and no run; give a new or empty folder with -o")
    make_folder(folder)
    probe = folder / ".writable"
    write_text(probe, "")
    probe.unlink()


def load_run(path: Path) -> Run:
    """Open a run folder, or its weights file. Raises UsageError when it is not one, BadModelError when it is damaged."""
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{path} is not a run: it has no {WEIGHTS}; make one with: edge-tl train DATA -o {path}")
    try:
        with safe_open(file, framework="pt") as content:
            spec_text = (content.metadata() or {}).get(_SPEC_KEY)
            state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadModelError(f"{file} is damaged ({error}); train again or restore a copy") from None
    if spec_text is None:
        raise BadModelError(f"{file} has no edge-tl contract in its header; use it as weights: --weights {file}")
    spec = ModelSpec.from_json(spec_text)
    network = restore_network(find_backbone(spec.arch), state, spec.labels, str(file))
    settings = file.parent / SETTINGS
    try:
        return Run(file.parent, network, spec, json.loads(settings.read_text()) if settings.is_file() else {})
    except ValueError:
        raise BadModelError(f"{settings} is not JSON; train again or restore a copy") from None


def open_run(name: str, weights: str = "pretrained") -> Run:
    """A run folder, its weights file, or a backbone by name with its published head and `weights`."""
    path = Path(name)
    if not path.exists() and is_backbone(name):
        return published_run(name, weights)
    if not path.exists():
        raise UsageError(f"no run at {name}, and no backbone of that name; make one with: edge-tl train DATA -o {name}")
    return load_run(path)


def published_run(arch: str, weights: str) -> Run:
    """A backbone with its published 1000-class head, as if it had been trained here. Raises WeightsError, UsageError."""
    backbone = find_backbone(arch)
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
    return Run(Path(arch.replace("/", "-")), network, spec, {})


def save_run(folder: Path, network: Network, spec: ModelSpec, settings: dict[str, Any]) -> None:
    """Write weights, contract and settings together. Raises OutputError and changes nothing when there is no room."""
    # Clones, since safetensors refuses tensors that share memory.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.module.state_dict().items()}
    write_together(
        {
            folder / WEIGHTS: save(state, metadata={_SPEC_KEY: spec.to_json()}),
            folder / SPEC: _readable(spec.to_dict()),
            folder / SETTINGS: _readable(settings),
        }
    )


def _readable(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


class Journal:
    """Metrics and log of a run, written as they happen, a line each.

    They carry the ending `.partial` until `finish`, so the records of an interrupted training can be read and those beside
    an older run's weights stay its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._metrics = open(folder / (METRICS + _PARTIAL), "w", encoding="utf-8")  # noqa: SIM115
            self._log = open(folder / (LOG + _PARTIAL), "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"cannot write in {folder}: {error.strerror}; choose another with -o") from None

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
