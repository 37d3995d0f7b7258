"""A pack for the benchmark on devices: an evaluation's photos and successes, and what the files said of the photos here."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.evaluation.evaluation import Attacked, RobustnessEvaluation, Say
from edge_tl.adversarial.evaluation.report import attack_all
from edge_tl.adversarial.evaluation.sweep import AttackRun
from edge_tl.adversarial.evaluation.target import CONTROL_KIND
from edge_tl.adversarial.settings import AttackSettings
from edge_tl_export import Stage
from edge_tl_runtime.bench.pack.archive import write_archive
from edge_tl_runtime.bench.pack.pack import FORMAT, KIND, MODEL, SIBLING, ZERO
from edge_tl_runtime.bench.parts.clean import PIECE
from edge_tl_runtime.core.errors import EdgeTLError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import parse_spec, read_model
from edge_tl_runtime.modelfile.spec import ModelSpec
from edge_tl_runtime.robustness.corrupted_accuracy import camera_frame
from edge_tl_runtime.robustness.corruptions import CAMERA, SEVERITIES

if TYPE_CHECKING:
    from edge_tl.adversarial.documents import AttackedModelDocument, RobustnessDocument
    from edge_tl_runtime.bench.pack import documents as doc
    from edge_tl_runtime.modelfile.documents import ResizeDocument
    from edge_tl_runtime.robustness.documents import AttackSettingsDocument, UnplacedModelDocument


def write_pack(
    model: Path, data: Path, target: Path, settings: AttackSettings, stage: Stage, say: Say = lambda line: None
) -> doc.PackSummaryDocument:
    """Attack a model file on labelled photos, as `edge-tl attack` does, and write a pack of it; a summary of what it holds.

    The same file, photos and settings give the same bytes on the same machine. Goes on with what was interrupted: that is kept
    in a hidden folder beside `target`. Raises UsageError, DataError, BadModelError, OutputError.
    """
    if settings.target or settings.source:
        raise UsageError(
            "a pack holds photos of every class and pictures made for any wrong one; leave target and source out"
        )
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name the file that the pack becomes, such as {target / 'bench.pack'}")
    progress = target.parent / f".{target.name}.progress"
    evaluation = RobustnessEvaluation(model, data, progress, settings, stage, say)
    attacked, report = attack_all(evaluation)
    packing = _Packing(evaluation, attacked["model"])
    manifest = _manifest(evaluation, report, packing)
    identity = write_archive(target, manifest, packing.members())
    if report["complete"]:
        shutil.rmtree(progress, ignore_errors=True)
    return _summary(target, identity, manifest)


def _manifest(
    evaluation: RobustnessEvaluation, report: RobustnessDocument, packing: _Packing
) -> doc.PackContentsDocument:
    """What `pack.json` holds; the lists of `packing` fill as its members are written."""
    settings, spec = evaluation.settings, evaluation.spec
    return {
        "kind": KIND,
        "format": FORMAT,
        "arch": spec.arch,
        "labels": list(spec.labels),
        "resize": cast("ResizeDocument", spec.resize.known()),
        "photos": packing.photos,
        "expected": packing.expected,
        "stored": packing.stored,
        "norm": settings.norm,
        "epsilons": list(settings.radii()[1:]),
        "corruptions": {"names": list(CAMERA), "severities": list(SEVERITIES), "seed": settings.seed},
        "workstation": _workstation(evaluation, report),
    }


def _workstation(evaluation: RobustnessEvaluation, report: RobustnessDocument) -> doc.WorkstationDocument:
    """Where the pack was made, and what `edge-tl attack` reports there."""
    counterpart = report["fp32_counterpart"]
    settings = {key: value for key, value in report["settings"].items() if key != "time_limit"}
    return {
        "data": _plain(evaluation.photos.data),
        "data_sha256": report["data_sha256"],
        "clean_accuracy": report["clean_accuracy"],
        "robust_accuracy": report["robust_accuracy"],
        "robust_accuracy_withheld": report["robust_accuracy_withheld"],
        "headline": report["headline"],
        "alarms": report["alarms"],
        "notes": report["notes"],
        "corruptions": report["corruptions"],
        "training_overlap": report["training_overlap"],
        "complete": report["complete"],
        "machine": report["environment"],
        "model": _unplaced(report["model"]),
        "fp32_counterpart": None if counterpart is None else _unplaced(counterpart),
        "attacks": [
            {
                "name": line["name"],
                "route": line["route"],
                "kind": line["kind"],
                "attack": line["attack"],
                "success": line["success"],
            }
            for line in report["models_under_test"]["model"]["attacks"]
        ],
        "settings": cast("AttackSettingsDocument", settings),
    }


def _unplaced(model: AttackedModelDocument) -> UnplacedModelDocument:
    """Without its path: a pack travels, and does not depend on the folder that it was made in."""
    return {
        "sha256": model["sha256"],
        "precision": model["precision"],
        "arch": model["arch"],
        "classes": model["classes"],
    }


def _summary(target: Path, identity: str, manifest: doc.PackContentsDocument) -> doc.PackSummaryDocument:
    """A manifest with numbers in place of its lists."""
    return {
        "file": str(target),
        "sha256": identity,
        "bytes": target.stat().st_size,
        "photos": len(manifest["photos"]),
        "labels": len(manifest["labels"]),
        "stored": [
            {
                "attack": item["attack"],
                "route": item["route"],
                "kind": item["kind"],
                "control": item["control"],
                "pictures": len(item["pictures"]),
            }
            for item in manifest["stored"]
        ],
        "format": manifest["format"],
        "arch": manifest["arch"],
        "norm": manifest["norm"],
        "epsilons": manifest["epsilons"],
        "expected": manifest["expected"],
        "workstation": manifest["workstation"],
        "complete": manifest["workstation"]["complete"],
    }


@dataclass
class _Packing:
    """Makes the members one by one and remembers what the manifest says of them."""

    evaluation: RobustnessEvaluation
    attacked: Attacked
    photos: list[doc.PackedPhotoDocument] = field(default_factory=list)
    expected: list[doc.ExpectedDocument] = field(default_factory=list)
    stored: list[doc.StoredAttackDocument] = field(default_factory=list)

    def members(self) -> Iterator[tuple[str, bytes]]:
        photos, lines = self.evaluation.photos, self.attacked.lines
        with self.evaluation.stage("packing", len(photos) + sum(len(line.found) for line in lines)) as done:
            yield from self._answers()
            for place in range(len(photos)):
                yield from self._photo(place)
                done(1)
            for number, line in enumerate(lines):
                for member in self._successes(number, line):
                    yield member
                    done(1)

    def _photo(self, place: int) -> Iterator[tuple[str, bytes]]:
        photos = self.evaluation.photos
        names = f"photos/{place:05d}.png", f"frames/{place:05d}.png"
        name, target = _plain(photos.names[place]), int(photos.targets[place])
        self.photos.append({"name": name, "target": target, "pixels": names[0], "frame": names[1]})
        yield names[0], _png(self._bgr(photos.pixels[place]))
        yield names[1], _png(camera_frame(read_photo(photos.paths[place])))

    def _answers(self) -> Iterator[tuple[str, bytes]]:
        """What the file, and those of the same origin beside it, say of the photos."""
        under_test, pixels = self.attacked.under_test, self.evaluation.photos.pixels
        files = [(MODEL, under_test.path, under_test.sha256, under_test.classifier)]
        files += [(SIBLING, *found) for found in relatives(under_test.path, under_test.sha256, self.evaluation.spec)]
        for number, (role, path, digest, classifier) in enumerate(files):
            logits = _evaluated(classifier.logits, pixels)
            member = f"expected/{role}.npy" if number < 2 else f"expected/{role}-{number}.npy"
            self.expected.append(
                {
                    "role": role,
                    "name": _plain(path.name),
                    "sha256": digest,
                    "precision": classifier.spec.precision,
                    "logits": member,
                    "right": int((logits.argmax(1) == self.evaluation.photos.targets).sum()),
                }
            )
            buffer = io.BytesIO()
            np.save(buffer, logits.astype(np.float32), allow_pickle=False)
            yield member, buffer.getvalue()

    def _successes(self, number: int, line: AttackRun) -> Iterator[tuple[str, bytes]]:
        """Each photo's smallest success as its difference from the photo; those that the file is still fooled by."""
        photos, logits = self.evaluation.photos, self.attacked.under_test.classifier.logits
        pictures: list[tuple[int, float, str]] = []
        for photo, adversarial in self.attacked.sweep.successes(line, sorted(line.found)):
            if logits(adversarial[None])[0].argmax() == photos.targets[photo]:
                continue
            # Wraps around, so that any pair of pictures has a difference of a byte, and it leads back.
            difference = adversarial - photos.pixels[photo] + np.uint8(ZERO)
            member = f"adversarial/{number:02d}/{photo:05d}.png"
            pictures.append((photo, line.found[photo][2], member))
            yield member, _png(self._bgr(difference))
        self.stored.append(
            {
                "attack": line.name,
                "route": line.route,
                "kind": line.kind,
                "control": line.kind == CONTROL_KIND,
                "pictures": sorted(pictures),
            }
        )

    def _bgr(self, pixels: NDArray[np.uint8]) -> Frame:
        return pixels[..., ::-1] if self.evaluation.spec.resize.color_order == "RGB" else pixels


def relatives(model: Path, digest: str, spec: ModelSpec) -> list[tuple[Path, str, Classifier]]:
    """Other files in the folder of a model that come from the same weights: its FP32 file, or those quantized from it.

    digest: SHA-256 of the model. Files that cannot be read, or take other pixels, are left out.
    """
    origins = {digest, *([spec.parent_sha256] if spec.precision != "fp32" and spec.parent_sha256 else [])}
    found: list[tuple[Path, str, Classifier]] = []
    for path in sorted(model.parent.glob("*.onnx")):
        try:
            data = read_model(path)
            other = parse_spec(data, str(path))
            known, own = {digest, *(item[1] for item in found)}, sha256(data)
            akin = own in origins or (other.precision != "fp32" and other.parent_sha256 in origins)
            if akin and own not in known and (other.labels, other.resize) == (spec.labels, spec.resize):
                found.append((path, own, Classifier(path)))
        except EdgeTLError:
            continue
    return found


def _evaluated(logits: Logits, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As many photos at a time as the benchmark asks about: kernels may add in another order for another number."""
    return np.concatenate([logits(pixels[start : start + PIECE]) for start in range(0, len(pixels), PIECE)])


def _png(picture: Frame) -> bytes:
    """Of BGR pixels, packed as tightly as the encoder can: written once, sent to many devices."""
    parameters: Sequence[int] = (cv2.IMWRITE_PNG_COMPRESSION, 9)
    _, data = cv2.imencode(".png", np.ascontiguousarray(picture), parameters)
    return data.tobytes()


def _plain(name: str) -> str:
    """A file's name as text: bytes that are none in its encoding are written out."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
