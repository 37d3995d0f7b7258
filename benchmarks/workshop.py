"""What benchmarks work on: models, runs, photos and other projects' interpreters, each made or found when it is first asked for.

Adding one: a function that returns its path, or raises Unavailable with what is missing, and its entry in MATERIALS.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = os.pathsep.join(map(str, (ROOT, ROOT / "export", ROOT / "runtime")))
"""PYTHONPATH of the project, for another interpreter."""

DATA = "EDGE_TL_TEST_DATA"
MAKING_S = 1800.0
GRACE_S = 10.0
"""Between asking a process to end and ending it."""

WEIGHTS = "mobilenet_v2-imagenet-fp16.pth"


class Unavailable(Exception):
    """A material that is not here, and what would bring it: the benchmarks that need it are skipped."""


class Failed(Exception):
    """A command that should have made a material, or a benchmark, ended badly. The message is one line."""


class Workshop:
    """Makes each material once, in `folder`; one that is there already, of an earlier run, is taken as it is.

    say: told what is being made.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder.resolve()
        self._say = say
        self._known: dict[str, str | Exception] = {}

    def find(self, name: str) -> str:
        """The path of a material of MATERIALS. Raises Unavailable or Failed, the same each time it is asked for."""
        if name not in self._known:
            try:
                self._known[name] = str(MATERIALS[name](self))
            except (Unavailable, Failed) as error:
                self._known[name] = error
        found = self._known[name]
        if isinstance(found, Exception):
            raise found
        return found

    def edge_tl(self, name: str, last: str, *words: str) -> Path:
        """The folder that `edge-tl WORDS -o FOLDER` fills. last: a file in it that is there only when the command ended well."""
        folder = self.folder / name
        if not (folder / last).exists():
            started = time.perf_counter()
            command = [sys.executable, "-m", "edge_tl", *words, "-o", str(folder)]
            run(command, MAKING_S, self.folder / f"{name}.out", self.folder / f"{name}.err", {})
            self._say(f"made {name}, {time.perf_counter() - started:.0f} s")
        return folder


def run(command: Sequence[str], limit_s: float, out: Path, err: Path, more: Mapping[str, str]) -> None:
    """A command in a process group of its own, to its end. more: variables of its environment.

    Raises Failed after a bad end or `limit_s` seconds; then, and when interrupted, all that it started is ended too.
    """
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **more},
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"stopped after its limit of {limit_s / 60:g} minutes") from None
        finally:
            if process.poll() is None:
                _end(process)
    if code:
        raise Failed(f"exit code {code}: {last_lines(err, 1) or last_lines(out, 1) or 'it said nothing'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    # Interrupted, a script tidies up. Started in the background of a shell, the run and its children ignore interrupts.
    for number, grace_s in ((signal.SIGINT, GRACE_S / 10), (signal.SIGTERM, GRACE_S)):
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
            return
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_lines(path: Path, count: int) -> str:
    """The last lines with something on them, each shortened; "" where there is no such file."""
    text = path.read_text("utf-8", "replace") if path.exists() else ""
    return "\n".join([line.strip()[:300] for line in text.splitlines() if line.strip()][-count:])


def _data(shop: Workshop) -> Path:
    folder = os.environ.get(DATA, "")
    if not folder or not Path(folder).is_dir():
        raise Unavailable(f"{DATA} names no folder of real photographs")
    return Path(folder).resolve()


def _weights(shop: Workshop) -> Path:
    path = Path(shop.find("data"), WEIGHTS)
    if not path.is_file():
        raise Unavailable(f"there is no {path}")
    return path


def _imagenet(shop: Workshop) -> Path:
    folder = Path(shop.find("data"), "imagenet-1k-sample")
    if not folder.is_dir():
        raise Unavailable(f"there is no {folder}")
    return folder


def _with_data(shop: Workshop) -> bool:
    try:
        return bool(shop.find("data"))
    except Unavailable:
        return False


def _demo(shop: Workshop) -> Path:
    return shop.edge_tl("demo", "run/model-int8.onnx", "demo")


def _filled(shop: Workshop, words: Sequence[str]) -> list[str]:
    """The words with weights for `{weights}`."""
    return [shop.find("weights") if word == "{weights}" else word for word in words]


def _of_imagenet(name: str, arch: str, *words: str) -> Callable[[Workshop], Path]:
    """The files of a published network in FP32 and INT8. words: as `_filled` takes them."""

    def make(shop: Workshop) -> Path:
        given = (*_filled(shop, words), "--quantize", "--no-layers", "--photos", shop.find("imagenet"))
        return shop.edge_tl(name, "model-int8.onnx", "export", arch, *given)

    return make


def _files_of(name: str, run: str, *words: str) -> Callable[[Workshop], Path]:
    """The ONNX files of a run, in a folder of their own."""
    last = "model-int8.onnx" if "--quantize" in words else "model.onnx"
    return lambda shop: shop.edge_tl(name, last, "export", shop.find(run), "--no-layers", *words)


def _run_of(name: str, photos: str, *words: str) -> Callable[[Workshop], Path]:
    """A linear probe on a folder of the real photographs. words: as `_filled` takes them."""

    def make(shop: Workshop) -> Path:
        given = ("--recipe", "probe", *_filled(shop, words))
        return shop.edge_tl(name, "model.safetensors", "train", f"{shop.find('data')}/{photos}", *given)

    return make


def _known(shop: Workshop) -> Path:
    if not _with_data(shop):
        return Path(shop.find("demo"), "run", "model-int8.onnx")
    return Path(shop.find("known_files"), "model-int8.onnx")


def _photos(shop: Workshop) -> Path:
    return (
        Path(shop.find("data"), "hymenoptera", "val") if _with_data(shop) else Path(shop.find("demo"), "photos", "val")
    )


def _photo(shop: Workshop) -> Path:
    return sorted(path for path in Path(shop.find("photos")).rglob("*") if path.suffix in (".jpg", ".png"))[0]


def _quantizers(shop: Workshop) -> Path:
    try:
        return Path(shop.find("openvino"))
    except Unavailable:
        return Path(shop.find("python"))


def _model(shop: Workshop) -> Path:
    return Path(shop.find("lite0"), "model-int8.onnx") if _with_data(shop) else Path(shop.find("known"))


def _named(variable: str, what: str) -> Callable[[Workshop], Path]:
    def find(shop: Workshop) -> Path:
        path = os.environ.get(variable, "")
        if not path:
            raise Unavailable(f"{variable} names no {what}")
        if not Path(path).exists():
            raise Unavailable(f"{variable} names {path}, which is not there")
        # Not resolved: the interpreter of a virtual environment is a link, and is told by its name.
        return Path(path).absolute()

    return find


FOUND: dict[str, Callable[[Workshop], Path]] = {
    "data": _data,
    "imagenet": _imagenet,
    "weights": _weights,
    "ultralytics": _named("EDGE_TL_ULTRALYTICS", "interpreter with ultralytics"),
    "openvino": _named("EDGE_TL_OPENVINO", "interpreter with openvino and nncf beside the project's packages"),
    "imagecorruptions": _named("EDGE_TL_IMAGECORRUPTIONS", "folder with the package imagecorruptions"),
}
"""What is brought along. data: real photographs; imagenet: those of its classes; weights: of mobilenet_v2 on ImageNet."""

MATERIALS: dict[str, Callable[[Workshop], Path]] = {
    **FOUND,
    "python": lambda shop: Path(sys.executable),
    "quantizers": _quantizers,
    "demo": _demo,
    "lite0": _of_imagenet("lite0", "efficientnet_lite0"),
    "mv2": _of_imagenet("mv2", "mobilenet_v2", "--weights", "{weights}"),
    "run": _run_of("run", "hymenoptera"),
    "run_mv2": _run_of("run_mv2", "hymenoptera", "--arch", "mobilenet_v2", "--weights", "{weights}"),
    "run_pets": _run_of("run_pets", "pets37"),
    "run_cats": _run_of("run_cats", "cats-dogs"),
    "known_files": _files_of("known_files", "run", "--quantize"),
    "pets": _files_of("pets", "run_pets"),
    "cats": _files_of("cats", "run_cats", "--quantize"),
    "model": _model,
    "known": _known,
    "photos": _photos,
    "photo": _photo,
}
"""What a step may ask for. python: this interpreter; quantizers: the one of openvino, or this. lite0, mv2: folders with a file of
ImageNet in FP32 and INT8. run, run_mv2, run_pets, run_cats: linear probes; known_files, pets, cats: folders with their files.
model: an INT8 file, lite0's where there are real photographs, else the demo's. known: an INT8 file that knows the classes of
`photos`; photo: one of these."""
