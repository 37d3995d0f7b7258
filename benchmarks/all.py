"""Every benchmark of the project in turn, as `make bench` runs them. Prints Markdown.

On built-in photographs; with EDGE_TL_TEST_DATA set, also those that need real ones.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent


def run(title: str, script: str, *arguments: object) -> None:
    print(f"\n## {title}\n", flush=True)
    subprocess.run([sys.executable, str(HERE / script), *map(str, arguments)], check=True)


def main() -> None:
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "opencv-python", "numpy", "torch"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder, "demo")
        subprocess.run(
            [sys.executable, "-m", "edge_tl", "demo", "-o", str(demo)], check=True, stdout=subprocess.DEVNULL
        )
        model = demo / "run" / "model-int8.onnx"
        photos = demo / "photos" / "val"
        run("A frame through the live loop", "frame_overhead.py", model)
        run("The live loop at work", "live.py", model, "--turns", 2)
        run("A camera that dies and returns", "reconnect.py", model, photos, "--kills", 5)
        run("A long run, shortened", "soak.py", model, "--frames", 10_000)
        run("Accuracy of the live loop", "live_accuracy.py", model, photos)
        run("The page and its viewers", "page.py", model)
        run("Tuning", "tune.py", model)
        run("What measuring costs", "bench_overhead.py", model)
        run("Start-up", "startup.py", model, next((photos / "brick").iterdir()))
    run("Edge-friendly variants", "friendly.py")
    data = os.environ.get("EDGE_TL_TEST_DATA")
    if data:
        weights = Path(data, "mobilenet_v2-imagenet-fp16.pth")
        run("Linear probe", "probe.py", data, *([weights] if weights.is_file() else []))
        run("Crop and resize", "resize.py", Path(data, "imagenet-1k-sample"))
        run("Quantizers", "quantization.py")
        with tempfile.TemporaryDirectory() as folder:
            photos, exported = Path(data, "imagenet-1k-sample"), Path(folder, "model.onnx")
            words = ["export", "efficientnet_lite0", "-o", folder]
            subprocess.run([sys.executable, "-m", "edge_tl", *words], check=True, stdout=subprocess.DEVNULL)
            run("Square beside the bare session and another library", "attack_speed.py", exported, photos)
            run("PGD beside its bare passes", "attack_speed_pgd.py", exported)
            run("Attacks beside other libraries'", "attacks_agree.py", exported, photos, 40)
        run("Corruptions", "corruptions.py", Path(data, "imagenet-1k-sample"))


if __name__ == "__main__":
    main()
