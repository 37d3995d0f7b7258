"""What this machine can do, and what is wrong with it: facts for `edge-tl doctor`. Never raises for what it finds."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import onnxruntime

from edge_tl.plugins import FoundPlugin, found_plugins
from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.inference.providers import computing_providers
from edge_tl_runtime.machine.cpu import TARGETS, cpu_features, cpu_name, memory, target_warning, this_target
from edge_tl_runtime.machine.temperature import temperature_c
from edge_tl_runtime.machine.tuning_profile import choose_settings
from edge_tl_runtime.sinks import window_obstacle
from edge_tl_runtime.sources.v4l import CameraInfo, PiCameraInfo, cameras, is_raspberry_pi, pi_cameras, pi_program

if TYPE_CHECKING:
    from edge_tl_runtime.machine.documents import DoctorDocument, ModelCheckDocument

OPENCV_WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Distributions that all install the package cv2, each over the files of the others."""

_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """What became of opening a model here. problem: why it cannot be used, warning: why it fits this machine badly; or ""."""

    path: str
    precision: str
    settings: str
    problem: str
    warning: str

    def to_dict(self) -> ModelCheckDocument:
        return {
            "path": self.path,
            "ok": not self.problem,
            "precision": self.precision,
            "settings": self.settings,
            "problem": self.problem,
            "warning": self.warning,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """cores: usable by this process. memory: bytes, total and available, zeros where unknown. gui: OpenCV's toolkit, or "".

    obstacle: why no window can be shown, or "". training: version of each package of edge-tl[train], "" for one that is not
    installed. pi_cameras: camera modules that rpicam-vid lists. live: whether the packages of each extra for live runs are here.
    temperature_c: None without a sensor. gpus: what PyTorch or the driver calls them. problems: each with what to do about it.
    """

    cpu: str
    features: tuple[str, ...]
    cores: int
    target: str
    memory: tuple[int, int]
    onnxruntime: str
    providers: tuple[str, ...]
    opencv: str
    opencv_wheels: tuple[str, ...]
    gui: str
    obstacle: str
    ffmpeg: bool
    cameras: tuple[CameraInfo, ...]
    pi_cameras: tuple[PiCameraInfo, ...]
    training: dict[str, str]
    live: dict[str, bool]
    temperature_c: float | None
    gpus: tuple[str, ...]
    model: ModelCheck | None
    plugins: tuple[FoundPlugin, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> DoctorDocument:
        """The document of `edge-tl doctor --json`."""
        return {
            "cpu": self.cpu,
            "features": list(self.features),
            "cores": self.cores,
            "target": self.target,
            "memory": {"total": self.memory[0], "available": self.memory[1]},
            "python": platform.python_version(),
            "onnxruntime": self.onnxruntime,
            "providers": list(self.providers),
            "opencv": {
                "version": self.opencv,
                "packages": list(self.opencv_wheels),
                "gui": self.gui,
                "window_obstacle": self.obstacle,
                "ffmpeg": self.ffmpeg,
            },
            "cameras": [camera.to_dict() for camera in self.cameras],
            "pi_cameras": [camera.to_dict() for camera in self.pi_cameras],
            "sources": list(self.sources),
            "training": self.training,
            "live": self.live,
            "temperature_c": self.temperature_c,
            "gpus": list(self.gpus),
            "model": None if self.model is None else self.model.to_dict(),
            "plugins": [found.to_dict() for found in self.plugins],
            "problems": list(self.problems),
        }

    @property
    def sources(self) -> tuple[str, ...]:
        """What `run --source` can be given on this machine, examples where there is no end of them."""
        found = [camera.source for camera in self.pi_cameras]
        found += [camera.path for camera in self.cameras if camera.readable]
        return (*found, "http://...", "rtsp://...", "videos", "photos", "- (standard input)", "a FIFO", "test://bars")

    def lines(self) -> dict[str, str]:
        """The same for a person: a heading and its text."""
        total, available = self.memory
        missing = [name for name, version in self.training.items() if not version]
        installed = ", ".join(f"{name} {version}" for name, version in self.training.items() if version)
        cameras = (
            " ".join(text for text in (c.path, c.name, c.stable and f"({c.stable})") if text) for c in self.cameras
        )
        lines = {
            "processor": f"{self.cpu}; {', '.join(self.features) or 'no features known'}",
            "cores": f"{self.cores} usable of {os.cpu_count()}",
            "target": f"{self.target}: {TARGETS[self.target]}",
            "memory": f"{total / 2**30:.1f} GiB, {available / 2**30:.1f} GiB available" if total else "unknown",
            "python": f"{platform.python_version()}, {platform.platform()}",
            "onnxruntime": f"{self.onnxruntime}; providers: {', '.join(self.providers)}",
            "opencv": f"{self.opencv} ({', '.join(self.opencv_wheels) or 'no package'}); "
            f"windows: {self.gui or 'none'}; FFmpeg: {'yes' if self.ffmpeg else 'no'}",
            "window": self.obstacle or "can be shown",
            "cameras": ", ".join((*map(str, self.pi_cameras), *cameras)) or "none",
            "sources": ", ".join(self.sources),
            "temperature": "no sensor" if self.temperature_c is None else f"{self.temperature_c:g} °C",
            "live runs": ", ".join(
                name if there else f"no {name} (pip install 'edge-tl[{name}]')" for name, there in self.live.items()
            ),
            "training": (installed or "not installed")
            + (f"; missing: {', '.join(missing)}" if installed and missing else ""),
            "GPU": ", ".join(self.gpus) or "none",
        }
        lines["plugins"] = ", ".join(map(str, self.plugins)) or "none"
        if self.model is not None:
            fine = f"{self.model.precision}, passes its self-test; {self.model.settings}"
            lines["model"] = f"{self.model.path}: {'cannot be used here' if self.model.problem else fine}"
        return lines


def diagnose(model: Path | None = None) -> Diagnosis:
    """Look at this machine, and at a model file on it."""
    build = cv2.getBuildInformation()
    wheels = tuple(name for name in OPENCV_WHEELS if _version(name))
    found, pi_found, training = cameras(), pi_cameras(), packages("train")
    checked = None if model is None else check_model(model)
    problems = [
        f"no permission for {camera.path}; run: sudo usermod -aG video $USER, then log in again"
        for camera in found
        if not camera.readable
    ]
    if is_raspberry_pi() and not pi_program():
        problems.append("the camera module of a Raspberry Pi needs rpicam-vid; run: sudo apt install rpicam-apps-lite")
    if len(wheels) > 1:
        problems.append(
            f"{' and '.join(wheels)} overwrite each other's files; run: pip uninstall -y {' '.join(wheels)}, "
            f"then: pip install {wheels[0]}"
        )
    if not build_entry(build, "FFMPEG").upper().startswith("YES"):
        problems.append(
            "this OpenCV has no FFmpeg, so videos and network cameras cannot be read; pip install opencv-python"
        )
    if checked is not None:
        problems += [text for text in (checked.problem, checked.warning) if text]
    added = found_plugins()
    problems += [found.problem for found in added if found.problem]
    return Diagnosis(
        cpu=cpu_name(),
        features=cpu_features(),
        cores=usable_cores(),
        target=this_target(),
        memory=memory(),
        onnxruntime=str(onnxruntime.__version__),
        providers=computing_providers(),
        opencv=str(cv2.__version__),
        opencv_wheels=wheels,
        gui="" if build_entry(build, "GUI").upper() in ("", "NONE") else build_entry(build, "GUI"),
        obstacle=window_obstacle(),
        ffmpeg=build_entry(build, "FFMPEG").upper().startswith("YES"),
        cameras=found,
        pi_cameras=pi_found,
        training=training,
        live={extra: all(packages(extra).values()) for extra in ("web", "text", "mqtt")},
        temperature_c=temperature_c(),
        gpus=gpus(bool(training.get("torch"))),
        model=checked,
        plugins=added,
        problems=tuple(problems),
    )


def check_model(path: Path) -> ModelCheck:
    """Open a model as `run` would: checksum, signature, self-test, profile."""
    try:
        settings, ignored = choose_settings(path)
        spec = Classifier(path, settings).spec
    except EdgeTLError as error:
        return ModelCheck(path=str(path), precision="", settings="", problem=str(error), warning="")
    warning = "; ".join(text for text in (target_warning(spec), ignored) if text)
    return ModelCheck(path=str(path), precision=spec.precision, settings=str(settings), problem="", warning=warning)


def packages(extra: str) -> dict[str, str]:
    """Version of every package of an extra, "" for one that is not installed; {} when pip did not install edge-tl."""
    try:
        wanted = importlib.metadata.requires("edge-tl") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    names = [
        re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in wanted if re.search(rf"extra == ['\"]{extra}['\"]", text)
    ]
    return {name: _version(name) for name in names}


def gpus(with_torch: bool) -> tuple[str, ...]:
    """GPUs for training. PyTorch takes seconds to import, so it is asked only where a driver shows one."""
    if with_torch and (_GPUS.is_dir() or sys.platform == "darwin"):
        try:
            import torch

            if torch.backends.mps.is_available():
                return ("Apple GPU (mps)",)
            return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        except (ImportError, OSError, RuntimeError) as error:
            return (f"not usable by PyTorch ({error})",)
    found = (re.search(r"^Model:\s*(.+)$", _text(path), re.MULTILINE) for path in _GPUS.glob("*/information"))
    return tuple(match[1].strip() for match in found if match)


def build_entry(build: str, name: str) -> str:
    """The value of `name:` in OpenCV's build information, or ""."""
    found = re.search(rf"^\s*{re.escape(name)}:[ \t]*(.*)$", build, re.MULTILINE)
    return found[1].strip() if found else ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
