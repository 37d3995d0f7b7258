"""The two sides of ultralytics_classify.py: their commands, and what they answered about the same photos."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workshop import ROOT, WEIGHTS, Failed, last_lines

from edge_tl.cli.console import say
from edge_tl.training.run_folder import read_evaluated
from edge_tl_runtime.images.datasets.survey import PICTURE_SUFFIXES

SIDE = Path(__file__).resolve().with_name("_ultralytics_side.py")


@dataclass(frozen=True)
class Variant:
    """A network of Ultralytics and how it is trained. scratch: no pretrained weights, so `--scratch-epochs`."""

    key: str
    network: str
    settings: str
    options: dict[str, Any] = field(default_factory=dict)
    scratch: bool = False
    normalised: bool = True


FINE = {"optimizer": "AdamW", "warmup_epochs": 1, "warmup_bias_lr": 0.0}
"""With an optimizer that is named, biases warm up at a rate of 0.1 unless told, which ends a pretrained network in one epoch."""

VARIANTS = (
    Variant("scratch", "yolo11n-cls", "from scratch, its defaults", scratch=True),
    Variant("documented", "mobilenet_v2", "as documented: its defaults, photos not normalised", normalised=False),
    Variant("normalised", "mobilenet_v2", "its defaults, photos normalised"),
    Variant("tuned", "mobilenet_v2", "AdamW 5e-4, a step for each batch", {**FINE, "lr0": 5e-4, "nbs": 16}),
    Variant(
        "frozen",
        "mobilenet_v2",
        "backbone frozen, AdamW 1e-3, crops and mirroring only",
        {**FINE, "lr0": 1e-3, "freeze": 1, "auto_augment": None, "erasing": 0.0},
    ),
)
OURS = (
    ("efficientnet_lite0", "probe"),
    ("efficientnet_lite0", "auto"),
    ("mobilenet_v2", "probe"),
    ("mobilenet_v2", "auto"),
)
TIMED, TIMED_THEIRS = ("mobilenet_v2", "probe"), "frozen"
"""In the last table, ours and theirs: the network that both have, at the size that both have."""


@dataclass(frozen=True)
class Answers:
    """One trained network. torch, fp32, quantized: the label of each photo by the network as trained and by its files."""

    tool: str
    network: str
    settings: str
    seconds: float
    said: float
    torch: list[str]
    fp32: list[str]
    quantized: dict[str, list[str]]
    megabytes: dict[str, float]
    notes: dict[str, str] = field(default_factory=dict)


class Bench:
    """Both sides' commands, each answer kept in `work` and taken from there the next time."""

    def __init__(self, data: Path, python: Path, work: Path, lasting: bool) -> None:
        """lasting: whether `work` is still there when the script has ended."""
        self.data, self.python, self.work, self.lasting = data.resolve(), python.absolute(), work.resolve(), lasting
        for name in ("theirs", "ours", "answers", "logs"):
            (self.work / name).mkdir(parents=True, exist_ok=True)

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        path = self.work / "answers" / f"{name}.json"
        if not path.exists():
            say(f"  {name}")
            path.write_text(json.dumps(make()))
        return json.loads(path.read_text())

    def known(self, name: str) -> Any:
        """An answer that is there already. Raises Failed."""
        path = self.work / "answers" / f"{name}.json"
        if not path.exists():
            raise Failed(f"there is no {path}; run without --latency-only, with the same --work")
        return json.loads(path.read_text())

    def photos(self, side: str, name: str) -> Path:
        """The side's own copy of a set of photos."""
        target = self.work / side / name
        if not target.exists():
            shutil.copytree(self.data / name, target, copy_function=shutil.copyfile)
            # The originals may be read-only, and one of the tools writes beside the photos.
            for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
                folder.chmod(0o755)
        return target

    def theirs(self, action: str, weights: str = "normalised", **arguments: Any) -> Any:
        """What an action of _ultralytics_side.py answers. weights: the folder that torchvision looks in. Raises Failed."""
        folder = self.work / "theirs"
        more = {
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLO_CONFIG_DIR": str(folder / "settings"),
            "TORCH_HOME": str(folder / weights),
            "PYTHONPATH": str(ROOT / "runtime"),
        }
        (folder / "settings").mkdir(exist_ok=True)
        command = [str(self.python), str(SIDE), action, json.dumps(arguments)]
        out = self._run(command, f"theirs-{action}", more, folder)
        return json.loads(next(line for line in reversed(out.splitlines()) if line.startswith("RESULT "))[7:])

    def ours(self, *words: str | Path, codes: Sequence[int] = (0,)) -> str:
        """The stdout of `edge-tl WORDS`. Raises Failed."""
        command = [sys.executable, "-m", "edge_tl", *map(str, words)]
        return self._run(command, f"ours-{words[0]}", {"EDGE_TL_CACHE": str(self.work / "cache")}, self.work, codes)

    def _run(
        self, command: list[str], name: str, more: dict[str, str], folder: Path, codes: Sequence[int] = (0,)
    ) -> str:
        log = self.work / "logs" / f"{name}.log"
        with open(log, "w") as errors:
            try:
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, env={**os.environ, **more}
                )
            except OSError as error:
                raise Failed(f"cannot start {command[0]}: {error.strerror}; name the interpreter itself") from None
        if done.returncode not in codes:
            more_in = f"; all it said: {log}" if self.lasting else "; --work FOLDER keeps all it says"
            raise Failed(f"{name} ended with {done.returncode}: {last_lines(log, 1) or 'it said nothing'}{more_in}")
        return done.stdout


def evaluation_photos(folder: Path) -> list[str]:
    """Validation photos, as paths below the folder of the set."""
    files = [path for path in (folder / "val").rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES]
    return sorted(str(path.relative_to(folder)) for path in files)


def ultralytics_answers(bench: Bench, name: str, variant: Variant, epochs: int) -> Answers:
    data = bench.photos("theirs", name)
    key = f"{name}-{variant.key}"

    weights = "normalised" if variant.normalised else "plain"

    def trained() -> dict[str, Any]:
        if not variant.scratch:
            source, photos = str(bench.data / WEIGHTS), str(bench.data / name / "train")
            bench.theirs("put_weights", weights, source=source, photos=photos, normalised=variant.normalised)
        started = time.perf_counter()
        model = "yolo11n-cls.yaml" if variant.scratch else variant.network
        options = {"model": model, "data": str(data), "name": key, "epochs": epochs, "options": variant.options}
        return {**bench.theirs("train", weights, **options), "process": time.perf_counter() - started}

    run = bench.kept(f"{key}-train", trained)
    files = bench.kept(f"{key}-export", lambda: bench.theirs("export", model=run["model"], data=str(data)))

    def labels(what: str, path: str) -> dict[str, Any]:
        arguments = {"model": path, "data": str(data), "photos": evaluation_photos(data)}
        return bench.kept(f"{key}-{what.replace(' ', '-')}", lambda: bench.theirs("evaluate", **arguments))

    found = {what: labels(what, made["path"]) for what, made in files.items() if "path" in made}
    return Answers(
        "Ultralytics",
        variant.network,
        f"{variant.settings} ({run['optimizer']}), {epochs} epochs",
        run["process"],
        found["ONNX FP32"]["val"],
        labels("PyTorch", run["model"])["labels"],
        found["ONNX FP32"]["labels"],
        {what: answer["labels"] for what, answer in found.items() if what != "ONNX FP32"},
        {what: made["megabytes"] for what, made in files.items() if "path" in made},
        {what: made["error"] for what, made in files.items() if "error" in made},
    )


def run_folder(bench: Bench, name: str, arch: str, recipe: str) -> Path:
    return bench.work / "ours" / f"{name}-{arch}-{recipe}"


def our_answers(bench: Bench, name: str, arch: str, recipe: str) -> Answers:
    data, folder = bench.photos("ours", name), run_folder(bench, name, arch, recipe)
    weights = ["--weights", str(bench.data / WEIGHTS)] if arch == "mobilenet_v2" else []

    def trained() -> dict[str, Any]:
        # Features that a training before this one kept would make it look faster than it is.
        shutil.rmtree(bench.work / "cache", ignore_errors=True)
        started = time.perf_counter()
        words = ("train", data, "--arch", arch, *weights, "--recipe", recipe, "-o", folder, "--json")
        return {**json.loads(bench.ours(*words)), "process": time.perf_counter() - started}

    run = bench.kept(folder.name + "-train", trained)
    exported = bench.kept(
        folder.name + "-export", lambda: {"said": bench.ours("export", folder, "--quantize", "--no-layers")}
    )
    photos = evaluation_photos(data)

    def labels(file: str) -> dict[str, Any]:
        classes = sorted({str(data / Path(photo).parent) for photo in photos})
        lines = bench.ours("predict", folder / file, *classes, "--json", "--no-profile").splitlines()
        said = {str(Path(row["source"]).relative_to(data)): row["label"] for row in map(json.loads, lines)}
        top1 = json.loads(bench.ours("evaluate", folder / file, data, "--json"))["top1"]
        return {"labels": [said.get(photo, "") for photo in photos], "val": top1}

    files = [file for file in ("model.onnx", "model-int8.onnx") if (folder / file).exists()]
    found = {file: bench.kept(f"{folder.name}-{file}", lambda file=file: labels(file)) for file in files}
    evaluated = read_evaluated(folder)["val"]
    by_name = dict(zip(evaluated.names, evaluated.logits.argmax(1), strict=True))
    torch_labels = [run["labels"][by_name[photo]] if photo in by_name else "" for photo in photos]
    quantized = {"ONNX INT8": found["model-int8.onnx"]["labels"]} if len(files) == 2 else {}
    names = {"model.onnx": "ONNX FP32", "model-int8.onnx": "ONNX INT8"}
    return Answers(
        "edge-tl",
        arch,
        f"{recipe}: {run['best']}, {run['size']} px",
        run["process"],
        found["model.onnx"]["val"],
        torch_labels,
        found["model.onnx"]["labels"],
        quantized,
        {names[file]: (folder / file).stat().st_size / 1e6 for file in files},
        {} if quantized else {"ONNX INT8": exported["said"].strip().splitlines()[-1]},
    )
