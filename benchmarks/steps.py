"""The benchmarks that `all.py` runs: a line each.

In the arguments {name} is one of `workshop.MATERIALS`, and what stands in brackets is left out where its material is missing.
"""

from __future__ import annotations

import re
import shlex
import string
from dataclasses import dataclass

from workshop import Unavailable, Workshop

LIBRARIES = ("all.py", "peers.py", "ratios.py", "steps.py", "workshop.py")
"""Files of this folder that are no benchmarks; so are those whose name begins with an underscore."""

OPTIONAL = re.compile(r"\[(.*?)\]")


@dataclass(frozen=True)
class Step:
    """A script and its arguments. quick: other arguments for a quick run; None: left out of it; "": the same.

    minutes: it is stopped after that. python: the material that is its interpreter.
    """

    title: str
    script: str
    full: str
    quick: str | None = ""
    minutes: float = 10
    python: str = "python"

    def arguments(self, quick: bool) -> str:
        return self.quick if quick and self.quick else self.full

    def needs(self, quick: bool) -> list[str]:
        """Materials that it cannot do without."""
        return fields(OPTIONAL.sub("", self.arguments(quick)))


LOOP = "[--ultralytics {ultralytics}] {model}"
RECIPES = "{data} {weights} --recipes probe auto"
QUANTIZERS = "--data {imagenet}"
FEWER = "--models efficientnet_lite0 --latency mobilenet_v3_small"
RUNTIMES = "[--python {openvino}] {lite0}/model.onnx {lite0}/model-int8.onnx"
MORE = " [{mv2}/model.onnx {mv2}/model-int8.onnx] {imagenet}"
AGREE = "{lite0}/model-int8.onnx {imagenet}"
CORRUPTIONS = "{imagenet} [--peer {imagecorruptions}]"
STEPS = (
    Step("A frame through the live loop", "frame_overhead.py", LOOP + " [{mv2}/model-int8.onnx]", LOOP),
    Step("The live loop at work", "live.py", "{model} {photos}", "{model} {photos} --turns 2"),
    Step("Decoding", "decoding.py", "{photos}", "{photos} --turns 3"),
    Step("A camera that dies", "reconnect.py", "{known} {photos}", "{known} {photos} --kills 3 --flow 5", 15),
    Step("A long run", "soak.py", "{known} --frames 100000", "{known} --frames 10000", 20),
    Step("Videos against their photos", "live_accuracy.py", "{known} {photos}", "{known} {photos} --shown 2", 15),
    Step("The page and its viewers", "page.py", "{model}", "{model} --seconds 6"),
    Step("Tuning", "tune.py", "{model}", minutes=15),
    Step("Threads that spin", "spinning.py", "{model}", "{model} --turns 10"),
    Step("What measuring costs", "bench_overhead.py", "{model} [{mv2}/model-int8.onnx]", "{model}"),
    Step("Start-up", "startup.py", "{known} {photo}"),
    Step("Edge-friendly variants", "friendly.py", "", "mobilenet_v3_small"),
    Step("Linear probe", "probe.py", "{data} [{weights}]", "{data}"),
    Step("Recipes", "recipes.py", RECIPES, f"{RECIPES} --sets pets37 --archs efficientnet_lite0 --seeds 0", 60),
    Step("Interrupted, and in two processes", "continuity.py", "{data}", "{data} --kills 3 --epochs 6", 30),
    Step("An epoch of fine-tuning", "finetune.py", "{data} [{weights}] --photos 128", "{data} --photos 64"),
    Step("Frames unlike two classes", "familiarity.py", "{known_files}/model.onnx {data}/hymenoptera {data}/cats-dogs"),
    Step("Frames unlike 37", "familiarity.py", "{pets}/model.onnx {data}/pets37 {imagenet} --without 151-268,281-285"),
    Step("A planted outlier", "outlier.py", "{run_mv2} {data}/hymenoptera", None, 20),
    Step("Crop and resize", "resize.py", "{imagenet}", None, 20),
    Step("Quantizers", "quantization.py", QUANTIZERS, f"{QUANTIZERS} {FEWER}", 40, "quantizers"),
    Step("The same file in other runtimes", "runtimes.py", RUNTIMES + MORE, RUNTIMES + " {imagenet} --photos 40", 20),
    Step("Beside Ultralytics", "ultralytics_classify.py", "{data} --ultralytics {ultralytics}", None, 60),
    Step("Questions beside the bare session", "attack_speed.py", "{model} {imagenet}", "{model} {imagenet} 8 50"),
    Step("Gradients beside bare passes", "attack_speed_pgd.py", "{model}", minutes=20),
    Step("Attacks beside other libraries'", "attacks_agree.py", f"{AGREE} 120 few", f"{AGREE} 24 few", 40),
    Step("The standard attacks beside theirs", "attacks_agree.py", f"{AGREE} 16 standard", None, 20),
    Step("Corruptions", "corruptions.py", CORRUPTIONS, f"{CORRUPTIONS} --photos 4"),
)


def fields(template: str) -> list[str]:
    return list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(template) if name))


def shown(template: str) -> str:
    """Arguments for the reader: materials by name instead of this machine's paths; what may be left out in brackets."""
    return template.format(**{name: name.upper() for name in fields(template)})


def words(template: str, shop: Workshop) -> list[str]:
    """The arguments that a template stands for. Raises Unavailable or Failed for a material outside brackets."""

    def kept(found: re.Match[str]) -> str:
        try:
            for name in fields(found[1]):
                shop.find(name)
        except Unavailable:
            return ""
        return found[1]

    # Split first: a path may hold a space.
    return [
        word.format(**{name: shop.find(name) for name in fields(word)})
        for word in shlex.split(OPTIONAL.sub(kept, template))
    ]
