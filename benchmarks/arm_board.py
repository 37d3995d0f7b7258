"""Whether a model file answers on a Raspberry Pi as it does here, without a Pi. Prints Markdown.

The same pixels go through onnxruntime's aarch64 wheel on an emulated core and through this machine's own onnxruntime.

    python benchmarks/arm_board.py MODEL.onnx ... --photos FOLDER [--count 200] [--cores cortex-a72 cortex-a76] [--json]

Needs qemu-user-static, apt-get and dpkg (Debian 12 or a derivative with python3.11) and, the first time, the network.
Arithmetic under emulation is the core's own, instruction by instruction; time under emulation says nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_tl.storage import cache_folder
from edge_tl_runtime.dataset import LabelledPhotos, load_unlabelled
from edge_tl_runtime.errors import BadModelError
from edge_tl_runtime.evaluate import PixelReader
from edge_tl_runtime.onnx_file import read_spec
from edge_tl_runtime.preprocess import DEFAULT_RESAMPLE
from edge_tl_runtime.spec import ResizeRule

QEMU = "qemu-aarch64-static"
PYTHON = "python3.11"
DEBIAN_PACKAGES = (
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"),
    *("libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libncursesw6"),
    *("libtinfo6", "libreadline8", "libcrypt1"),
)
WHEEL_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)


@dataclass(frozen=True)
class Core:
    """What /proc/cpuinfo says of it. onnxruntime chooses its kernels by these lines and crashes on import without them;
    claiming dot products (asimddp) for a core that has none ends in an illegal instruction."""

    board: str
    part: str
    features: str

    def cpuinfo(self) -> str:
        lines = f"BogoMIPS\t: 108.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        lines += f"CPU variant\t: 0x0\nCPU part\t: {self.part}\nCPU revision\t: 3\n\n"
        return "".join(f"processor\t: {index}\n{lines}" for index in range(4))


CORES = {
    "cortex-a72": Core("Raspberry Pi 4", "0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": Core("Raspberry Pi 5", "0xd0b", "fp asimd evtstrm crc32 cpuid asimddp atomics fphp asimdhp"),
}

# Runs on both sides, so that nothing but the machine differs: one photo a call, as the camera does.
RUNNER = """
import sys
import numpy as np
import onnxruntime

pixels, *pairs = sys.argv[1:]
pixels = np.load(pixels)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
for model, answers in zip(pairs[::2], pairs[1::2]):
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = [session.run(["logits"], {"pixels": pixels[i : i + 1]})[0] for i in range(len(pixels))]
    np.save(answers, np.concatenate(rows).astype(np.float32))
"""


@dataclass(frozen=True)
class Agreement:
    """One model on one core against this machine.

    largest_difference: of any logit. spread: standard deviation of the logits here, to judge the difference by.
    seconds: of emulation, a photo, its start included.
    """

    model: str
    core: str
    n: int
    labels_equal: int
    largest_difference: float
    spread: float
    identical: bool
    seconds: float


def build_sysroot(folder: Path) -> Path:
    """An aarch64 Python with this environment's onnxruntime, made below `folder` unless there. Returns its folder.

    `all/` holds what the cores share and `all/wheels` what Python imports; each core has a folder of links to it and a
    /proc/cpuinfo of its own.
    """
    root = folder / f"onnxruntime-{onnxruntime.__version__}"
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            unfinished = Path(name) / "root"
            _unpack_packages(Path(name) / "apt", unfinished / "all")
            _unpack_wheels(unfinished / "all" / "wheels")
            for core in CORES:
                _describe_core(unfinished, core)
            unfinished.rename(root)
    return root


def _unpack_packages(work: Path, target: Path) -> None:
    """Through apt with lists of its own and another architecture: neither the host's packages nor its lists change."""
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State::lists": str(work / "lists"),
        "Dir::Cache": str(work / "cache"),
        "APT::Sandbox::User": "root",  # apt's own user cannot write below a temporary folder
    }
    apt = ["apt-get", "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    for part in ("lists/partial", "cache/archives/partial"):
        (work / part).mkdir(parents=True)
    # Not checked: a third party's source without arm64 fails the update though Debian's lists have come.
    subprocess.run([*apt, "update"], stdout=sys.stderr)
    subprocess.run([*apt, "download", *DEBIAN_PACKAGES], cwd=work, check=True, stdout=sys.stderr)
    target.mkdir(parents=True)
    for package in sorted(work.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(target)], check=True)


def _unpack_wheels(target: Path) -> None:
    """What edge_tl_runtime imports. Only onnxruntime is pinned to the host's version: it alone computes."""
    platforms = [part for platform in WHEEL_PLATFORMS for part in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-deps", "--no-compile"]
    version = PYTHON.removeprefix("python")
    command += ["--implementation", "cp", "--python-version", version, *platforms, "--target", str(target)]
    wheels = [f"onnxruntime=={importlib.metadata.version('onnxruntime')}", "numpy", "opencv-python-headless"]
    subprocess.run([*command, *wheels], check=True, stdout=sys.stderr)


def _describe_core(root: Path, core: str) -> None:
    (root / core / "proc").mkdir(parents=True)
    (root / core / "proc" / "cpuinfo").write_text(CORES[core].cpuinfo())
    for shared in (root / "all").iterdir():
        (root / core / shared.name).symlink_to(Path("..") / "all" / shared.name)


def emulator() -> str:
    found = shutil.which(QEMU)
    if found is None:
        sys.exit(f"{QEMU} is not installed; install it with: apt-get install qemu-user-static")
    return found


def run_on_board(models: Sequence[Path], pixels_npy: Path, core: str, sysroot: Path) -> list[NDArray[np.float32]]:
    """Logits of each model, float32 (N, C), computed by an emulated `core`.

    pixels_npy: a file of uint8 (N, H, W, 3). core: a key of CORES. sysroot: what `build_sysroot` returned.
    """
    root = (sysroot / core).resolve()
    command = [emulator(), "-L", str(root), str(root / "usr" / "bin" / PYTHON), "-s"]
    return _answers(command, models, pixels_npy, {"QEMU_CPU": core, "PYTHONPATH": str(root / "wheels")})


def run_on_host(models: Sequence[Path], pixels_npy: Path) -> list[NDArray[np.float32]]:
    """As `run_on_board`, on this machine."""
    return _answers([sys.executable], models, pixels_npy, {})


def _answers(
    python: Sequence[str], models: Sequence[Path], pixels_npy: Path, environment: dict[str, str]
) -> list[NDArray[np.float32]]:
    with tempfile.TemporaryDirectory() as name:
        answers = [Path(name) / f"{index}.npy" for index in range(len(models))]
        pairs = [str(part.resolve()) for pair in zip(models, answers, strict=True) for part in pair]
        arguments = [*python, "-c", RUNNER, str(pixels_npy.resolve()), *pairs]
        subprocess.run(arguments, check=True, env={**os.environ, **environment}, stdout=sys.stderr)
        return [np.load(file) for file in answers]


def resize_rule(model: Path) -> ResizeRule:
    """The file's own, or for a graph without a contract a plain one of its input's size."""
    try:
        return read_spec(model).resize
    except BadModelError:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        _, height, width, _ = session.get_inputs()[0].shape
        return ResizeRule(height=height, width=width, crop_pct=0.875, resample=DEFAULT_RESAMPLE)


def write_pixels(photos: Path, count: int, rule: ResizeRule, target: Path) -> None:
    """uint8 (N, H, W, 3) of N <= count photos, spread evenly over the sorted names so that every class has its turn."""
    found = load_unlabelled(photos)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).astype(int))
    some: LabelledPhotos = found.subset(chosen.tolist(), "unlabelled")
    np.save(target, np.concatenate([batch.pixels for batch in PixelReader(some, rule)]))


def compare(models: Sequence[Path], pixels_npy: Path, cores: Sequence[str], sysroot: Path) -> list[Agreement]:
    """Each model on each core; this machine's answers are computed once."""
    rows = []
    for model in models:
        (here,) = run_on_host([model], pixels_npy)
        for core in cores:
            started = time.perf_counter()
            (there,) = run_on_board([model], pixels_npy, core, sysroot)
            seconds = (time.perf_counter() - started) / len(here)
            rows.append(agreement(str(model), core, here, there, seconds))
    return rows


def agreement(
    model: str, core: str, here: NDArray[np.float32], there: NDArray[np.float32], seconds: float
) -> Agreement:
    """here, there: float32 (N, C) of the same pixels."""
    equal = int((here.argmax(1) == there.argmax(1)).sum())
    # NaN on either side must not pass for agreement, so the maximum may be NaN.
    difference, spread = float(np.abs(here - there).max()), float(here.std())
    return Agreement(model, core, len(here), equal, difference, spread, here.tobytes() == there.tobytes(), seconds)


def show(rows: Sequence[Agreement]) -> None:
    print("| file | core | labels equal | largest logit difference | spread of logits | bytes | s a photo, emulated |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.model} | {row.core} ({CORES[row.core].board}) | {row.labels_equal} of {row.n} "
            f"| {row.largest_difference:.3g} | {row.spread:.2f} | {'identical' if row.identical else 'differ'} "
            f"| {row.seconds:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--cores", nargs="+", choices=CORES, default=list(CORES))
    parser.add_argument("--sysroot", type=Path, help="folder to keep the emulated system in; the cache's arm64")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    emulator()  # before anything is downloaded
    sysroot = build_sysroot(options.sysroot or cache_folder("arm64"))
    rows = []
    by_rule: dict[ResizeRule, list[Path]] = {}
    for model in options.models:
        by_rule.setdefault(resize_rule(model), []).append(model)
    for rule, models in by_rule.items():
        with tempfile.TemporaryDirectory() as name:
            pixels = Path(name) / "pixels.npy"
            write_pixels(options.photos, options.count, rule, pixels)
            rows += compare(models, pixels, options.cores, sysroot)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        show(rows)


if __name__ == "__main__":
    main()
