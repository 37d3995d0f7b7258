"""This project beside Ultralytics: train, export, quantize, predict, on the same photos. Prints Markdown.

    python benchmarks/beside_ultralytics.py DATA --ultralytics PYTHON [--sets NAME ...] [--work FOLDER] [--latency-only]

DATA: the folder of EDGE_TL_TEST_DATA. PYTHON: an interpreter with ultralytics (8.4), torch, torchvision, openvino, nncf, onnx,
onnxruntime and onnxslim. Each side works on a copy of its own, through its own commands: `edge-tl train`, `export --quantize`,
`predict` and `evaluate` here; `YOLO.train`, `export`, `predict` and `val` there, offline.

Ultralytics' pretrained classifiers are downloads that a closed network lacks. Its networks are therefore yolo11n-cls from
scratch, and a backbone that both sides have with the same weights: torchvision's mobilenet_v2 of DATA under its Classify head,
laid where torchvision looks for its download. Its pipeline feeds 0..1 and never normalises: the row "as documented" leaves that
so, the others have ImageNet's mean and deviation folded into the first convolution. In all of them batch normalisation, which is
folded in the file, is made whole again; without that its training would begin from ruined features. "best" of Ultralytics is the
variant with the best top-1 on the evaluation photos, which favours it.

Its INT8 files are calibrated on the validation photos, as it does unless told. Times of training are whole processes, one at a
time. --work keeps models and answers in FOLDER; what is there is not made again. --latency-only: the last table alone, of models
that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _ultralytics_bench import (
    OURS,
    TIMED,
    TIMED_THEIRS,
    VARIANTS,
    Answers,
    Bench,
    evaluation_photos,
    our_answers,
    run_folder,
    ultralytics_answers,
)
from measure import paired, paired_points
from PIL import Image
from ratios import record
from workshop import Failed, last_lines

from edge_tl_runtime.core.statistics import discordant, mcnemar, wilson
from edge_tl_runtime.machine.cpu import cpu_name

FRAME, TURNS, FRAMES = (480, 640), 40, 10


# Tables


def share(labels: Sequence[str], truth: Sequence[str]) -> str:
    correct = sum(a == b for a, b in zip(labels, truth, strict=True))
    low, high = wilson(correct, len(truth))
    return f"{100 * correct / len(truth):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def changed(first: Sequence[str], second: Sequence[str]) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))


def right(labels: Sequence[str], truth: Sequence[str]) -> np.ndarray:
    return np.asarray([a == b for a, b in zip(labels, truth, strict=True)])


def training_table(found: dict[str, list[Answers]], truths: dict[str, list[str]]) -> None:
    print(
        "| photos | tool | network | settings | training s | top-1 % of ONNX FP32 (95 %) | its own figure | PyTorch to ONNX |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, answers in found.items():
        for a in answers:
            print(
                f"| {name} | {a.tool} | {a.network} | {a.settings} | {a.seconds:.0f} | {share(a.fp32, truths[name])} "
                f"| {100 * a.said:.1f} | {changed(a.torch, a.fp32)} of {len(a.fp32)} labels differ |",
                flush=True,
            )
    print()


def quantized_table(found: dict[str, list[Answers]], truths: dict[str, list[str]]) -> None:
    print("| photos | tool | network | file | MB | top-1 % (95 %) | labels that differ from its ONNX FP32 |")
    print("|---|---|---|---|---|---|---|")
    for name, answers in found.items():
        for a in answers:
            for file, labels in {"ONNX FP32": a.fp32, **a.quantized}.items():
                tail = f"{share(labels, truths[name])} | {changed(a.fp32, labels)} of {len(labels)} |"
                print(f"| {name} | {a.tool} | {label(a)} | {file} | {a.megabytes[file]:.1f} | {tail}")
            for file, why in a.notes.items():
                print(f"| {name} | {a.tool} | {label(a)} | {file} | - | {why} | - |")
    print(flush=True)


def label(answers: Answers) -> str:
    """The network and the first words of its settings."""
    return f"{answers.network}, {re.split('[:,(]', answers.settings)[0].strip()}"


def best(answers: Sequence[tuple[Answers, list[str]]], truth: Sequence[str]) -> tuple[Answers, list[str]]:
    return max(answers, key=lambda pair: right(pair[1], truth).sum())


def paired_table(found: dict[str, list[Answers]], truths: dict[str, list[str]]) -> None:
    """The best of each side on the same photos, over all networks and over the one that both have."""
    print(
        "| photos | files | edge-tl's best | Ultralytics' best | only edge-tl right | only Ultralytics right | McNemar p "
        "| points (95 %) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, answers in found.items():
        for what, network in (("FP32", ""), ("FP32", "mobilenet_v2"), ("INT8", ""), ("INT8", "mobilenet_v2")):
            sides = []
            for tool in ("edge-tl", "Ultralytics"):
                own = [a for a in answers if a.tool == tool and network in ("", a.network)]
                pairs = (
                    [(a, a.fp32) for a in own]
                    if what == "FP32"
                    else [(a, labels) for a in own for file, labels in a.quantized.items() if "INT8" in file]
                )
                sides.append(best(pairs, truths[name]) if pairs else None)
            if None not in sides:
                paired_row(name, f"{what}, {network or 'any network'}", sides, truths[name])
    print(flush=True)


def paired_row(name: str, what: str, sides: list[Any], truth: list[str]) -> None:
    (our, our_labels), (their, their_labels) = sides
    first, second = right(our_labels, truth), right(their_labels, truth)
    gained, lost = discordant(first, second)
    spread = paired_points(first.tolist(), second.tolist())
    interval = f"{spread['ratio']:+.1f} ({spread['low']:+.1f} to {spread['high']:+.1f})"
    print(
        f"| {name} | {what} | {label(our)} {100 * first.mean():.1f} % | {label(their)} {100 * second.mean():.1f} % "
        f"| {gained} | {lost} | {mcnemar(gained, lost):.3g} | {interval} |"
    )
    note = f"best of each side, {len(truth)} photos; 95 %, paired"
    record(f"top-1 on {name}, {what}", "Ultralytics", **spread, better="higher", note=note, kind="points")


# Files that are not as they should be


def make_hostile(bench: Bench, folder: Path) -> list[Path]:
    """A photo, and it turned by EXIF, in CMYK, with bytes after its end, cut short; and the GIF of hymenoptera."""
    source = next(path for path in sorted((bench.data / "hymenoptera" / "val" / "bees").iterdir()))
    plain = Image.open(source).convert("RGB")
    folder.mkdir(exist_ok=True)
    names = [
        folder / name
        for name in ("plain.jpg", "turned-by-exif.jpg", "cmyk.jpg", "bytes-after-its-end.jpg", "cut-short.jpg")
    ]
    plain.save(names[0], quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = cv2.rotate(np.asarray(plain), cv2.ROTATE_90_COUNTERCLOCKWISE)
    Image.fromarray(turned).save(names[1], quality=95, exif=exif)
    plain.convert("CMYK").save(names[2], quality=95)
    whole = names[0].read_bytes()
    names[3].write_bytes(whole + bytes(8))
    names[4].write_bytes(whole[: len(whole) * 2 // 3])
    gif = shutil.copyfile(next((bench.data / "hymenoptera" / "train" / "ants").glob("*.gif")), folder / "no-photo.gif")
    return [*names, Path(gif)]


def hostile_table(bench: Bench) -> None:
    files = make_hostile(bench, bench.work / "hostile")
    model = bench.known(f"hymenoptera-{TIMED_THEIRS}-train")["model"]
    theirs = bench.theirs("hostile", model=model, files=[str(file) for file in files])
    print("| file | Ultralytics, predict | Ultralytics, scan before training | edge-tl predict |")
    print("|---|---|---|---|")
    ours = run_folder(bench, "hymenoptera", *TIMED) / "model.onnx"
    for file, row in zip(files, theirs, strict=True):
        out = bench.ours("predict", ours, file, "--json", "--no-profile", codes=(0, 1)).strip()
        if out:
            answer = json.loads(out)
            mine = f"{answer['label']} {100 * answer['confidence']:.1f} %"
        else:
            mine = f"exit code 1: {last_lines(bench.work / 'logs' / 'ours-predict.log', 1)}"
        cells = [" ".join(text.replace(str(file), file.name).split())[:160] for text in (*row.values(), mine)]
        print(f"| {file.name} | {' | '.join(cells)} |")
    print(flush=True)


def folder_table(bench: Bench, names: Sequence[str]) -> None:
    """What training and export left behind in the folder of photos."""
    print("| photos | tool | files added | files rewritten | files gone |")
    print("|---|---|---|---|---|")
    for name in names:
        before = hashes(bench.data / name)
        for tool, side in (("edge-tl", "ours"), ("Ultralytics", "theirs")):
            after = hashes(bench.photos(side, name))
            added = sorted(after.keys() - before.keys())
            rewritten = sum(after[key] != before[key] for key in after.keys() & before.keys())
            gone = len(before.keys() - after.keys())
            print(f"| {name} | {tool} | {', '.join(added) or 0} | {rewritten} | {gone} |")
    print(flush=True)


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# Time


def latency_table(bench: Bench, name: str) -> None:
    """Of the network that both have."""
    files = bench.known(f"{name}-{TIMED_THEIRS}-export")
    folder = run_folder(bench, name, *TIMED)
    ours = {"edge-tl FP32": folder / "model.onnx", "edge-tl INT8": folder / "model-int8.onnx"}
    found = bench.theirs(
        "latency",
        models={what: made["path"] for what, made in files.items() if "path" in made},
        ours={what: str(path) for what, path in ours.items() if path.exists()},
        frame=FRAME,
        turns=TURNS,
        frames=FRAMES,
    )
    times, threads = found["times"], found["threads"]
    cores = f"{threads['cores']} cores, torch {threads['torch']} threads"
    others = f"other programs took {found['others']:.2f} of the processor"
    print(f"mobilenet_v2 of {name}, {FRAME[1]}x{FRAME[0]}; {cores}; {others}.\n")
    print("| from a decoded frame to a label | median ms | quartiles | over edge-tl FP32 | over edge-tl INT8 |")
    print("|---|---|---|---|---|")
    for side, ms in times.items():
        low, middle, high = statistics.quantiles(ms, n=4)
        cells = " | ".join(f"{paired(ms, times[own])['ratio']:.2f}" for own in ours if own in times)
        print(f"| {side} | {middle:.2f} | {low:.2f} to {high:.2f} | {cells} |")
    print(flush=True)
    for own, others in (
        ("edge-tl FP32", ("ONNX FP32", "OpenVINO FP32")),
        ("edge-tl INT8", ("ONNX INT8", "OpenVINO INT8")),
    ):
        for other in others:
            if own not in times or f"Ultralytics, {other}" not in times:
                continue
            spread = paired(times[own], times[f"Ultralytics, {other}"])
            what = f"a frame of 640x480 to a label, mobilenet_v2 {own[-4:]}"
            record(what, f"Ultralytics' predict, {other}", **spread, note="in turns, one process")


def compare(bench: Bench, options: argparse.Namespace) -> None:
    found: dict[str, list[Answers]] = {}
    truths: dict[str, list[str]] = {}
    for name in options.sets:
        truths[name] = [Path(photo).parent.name for photo in evaluation_photos(bench.data / name)]
        found[name] = [our_answers(bench, name, *pair) for pair in OURS]
        for variant in VARIANTS:
            epochs = options.scratch_epochs if variant.scratch else options.epochs
            found[name].append(ultralytics_answers(bench, name, variant, epochs))
    training_table(found, truths)
    quantized_table(found, truths)
    paired_table(found, truths)
    folder_table(bench, options.sets)
    if "hymenoptera" in options.sets:
        hostile_table(bench)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--ultralytics", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--sets", nargs="+", default=["hymenoptera", "pets37"])
    parser.add_argument("--epochs", type=int, default=10, help="Of its pretrained networks.")
    parser.add_argument("--scratch-epochs", type=int, default=30)
    parser.add_argument("--work", type=Path, help="Keep models and answers here.")
    parser.add_argument("--latency-only", action="store_true", help="The table of times alone, of models in --work.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.data, options.ultralytics, options.work or Path(folder), options.work is not None)
        try:
            versions = ", ".join(f"{name} {number}" for name, number in bench.theirs("versions").items())
            print(f"{cpu_name()}; {versions}; load before the start {os.getloadavg()[0]:.1f}\n", flush=True)
            if not options.latency_only:
                compare(bench, options)
            latency_table(bench, options.sets[0])
        except Failed as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
