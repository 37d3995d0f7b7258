"""The scripts that `all.py` runs, a line each: HEADLINES by themselves, OF_STUDIES when they are named.

In the arguments {name} is one of `workshop.MATERIALS`, and what stands in brackets is left out where its material is missing.
"""

from __future__ import annotations

import re
import shlex
import string
from dataclasses import dataclass, replace

from workshop import Unavailable, Workshop

LIBRARIES = ("all.py", "measure.py", "ratios.py", "steps.py", "workshop.py")
"""Files of this folder that measure nothing themselves; so are those whose name begins with an underscore."""

STUDIES = "studies/"
"""Folder of the scripts that served one decision. They run when they are asked for by name."""

OPTIONAL = re.compile(r"\[(.*?)\]")


@dataclass(frozen=True)
class Step:
    """A script and its arguments. quick: other arguments for a quick run; None: left out of it; "": the same.

    minutes: it is stopped after that. python: the material that is its interpreter. peers: packages that it compares with, whose
    versions are written beside the figures.
    """

    title: str
    script: str
    full: str
    quick: str | None = ""
    minutes: float = 10
    python: str = "python"
    peers: tuple[str, ...] = ()

    def arguments(self, quick: bool) -> str:
        return self.quick if quick and self.quick else self.full

    def needs(self, quick: bool) -> list[str]:
        """Materials that it cannot do without."""
        return fields(OPTIONAL.sub("", self.arguments(quick)))


OPENVINO = ("openvino", "nncf")
ULTRALYTICS = ("ultralytics", *OPENVINO)
ATTACKS = ("adversarial-robustness-toolbox", "pyautoattack", "torchattacks")
LOOP = "[--ultralytics {ultralytics}] {model}"
QUANTIZERS = "--data {imagenet}"
FEWER = f"{QUANTIZERS} --models efficientnet_lite0 --latency mobilenet_v3_small"
RUNTIMES = "[--python {openvino}] {lite0}/model.onnx {lite0}/model-int8.onnx"
MORE = " [{mv2}/model.onnx {mv2}/model-int8.onnx] {imagenet}"
AGREE = "{lite0}/model-int8.onnx {imagenet}"
RECIPES = "{data} {weights} --recipes probe auto"
ONE_RECIPE = f"{RECIPES} --sets pets37 --archs efficientnet_lite0 --seeds 0"
UNKNOWN = "{known_files}/model.onnx {data}/hymenoptera {data}/cats-dogs {imagenet}"
TWO_CLASSES = "{known_files}/model.onnx {data}/hymenoptera {data}/cats-dogs"
MANY_CLASSES = "{pets}/model.onnx {data}/pets37 {imagenet} --without 151-268,281-285"
DRIFT = "{known_files}/model-int8.onnx {data}/hymenoptera {imagenet} --without 308-310"
PLACES = "{imagenet} {data}/cats-dogs"
LOOKING = f"{{cats}}/model-int8.onnx {PLACES}"
CORRUPTIONS = "{imagenet} [--peer {imagecorruptions}]"
HEADLINES = (
    Step(
        "A frame through the live loop", "frame_overhead.py", LOOP + " [{mv2}/model-int8.onnx]", LOOP, peers=ULTRALYTICS
    ),
    Step("The live loop at work", "live_loop.py", "{model} {photos}", "{model} {photos} --turns 2"),
    Step(
        "A camera that dies and returns", "reconnect.py", "{known} {photos}", "{known} {photos} --kills 3 --flow 5", 15
    ),
    Step("A long run", "long_run.py", "{known} --frames 100000", "{known} --frames 10000", 20),
    Step("Decoding of videos", "decoding.py", "{photos}", "{photos} --turns 3", peers=("av",)),
    Step("Start-up", "startup.py", "{known} {photo}"),
    Step("INT8 files of other quantizers", "quantizers.py", QUANTIZERS, FEWER, 40, "quantizers", OPENVINO),
    Step("Other runtimes", "runtimes.py", RUNTIMES + MORE, RUNTIMES + " {imagenet} --photos 40", 20, peers=OPENVINO),
    Step(
        "Beside Ultralytics", "beside_ultralytics.py", "{data} --ultralytics {ultralytics}", None, 60, peers=ULTRALYTICS
    ),
    Step("An epoch of fine-tuning", "training_epoch.py", "{data} [{weights}] --photos 128", "{data} --photos 64"),
    Step("Few and unequal photos", "few_photos.py", "{data}", "{data} --seeds 5", 20, peers=("scikit-learn",)),
    Step("What is called unknown", "unknown.py", UNKNOWN, peers=("pytorch-ood",)),
    Step("When to look", "motion.py", LOOKING, f"{LOOKING} --seconds 10 --minutes 2", 20, peers=("av",)),
    Step(
        "A camera that is not what it was", "tamper.py", PLACES, f"{PLACES} --places 2 --hours 0.1", 15, peers=("av",)
    ),
    Step("Bursts", "burst_splits.py", "{data}/pets37 --photos 111", "{data}/pets37 --photos 74 --seeds 2", 20),
    Step("Other libraries' attacks", "attacks_agree.py", f"{AGREE} 120 few", f"{AGREE} 24 few", 40, peers=ATTACKS),
    Step("AutoAttack's standard", "attacks_agree.py", f"{AGREE} 16 standard", None, 20, peers=ATTACKS),
)
OF_STUDIES = (
    Step("Videos against their photos", "video_accuracy.py", "{known} {photos}", "{known} {photos} --shown 2", 15),
    Step("The page and its viewers", "page_viewers.py", "{model}", "{model} --seconds 6"),
    Step("What tune chooses", "tune_choice.py", "{model}", minutes=15),
    Step("Threads that spin", "spinning_threads.py", "{model}", "{model} --turns 10"),
    Step("What measuring costs", "bench_overhead.py", "{model} [{mv2}/model-int8.onnx]", "{model}"),
    Step("Edge-friendly variants", "edge_friendly.py", "", "mobilenet_v3_small"),
    Step("Linear probe", "linear_probe.py", "{data} [{weights}]", "{data}"),
    Step("Recipes", "recipes.py", RECIPES, ONE_RECIPE, 60),
    Step("Interrupted training", "interrupted_training.py", "{data}", "{data} --kills 3 --epochs 6", 30),
    Step("Photos of no class, two classes", "ood_score.py", TWO_CLASSES),
    Step("Photos of no class, 37 classes", "ood_score.py", MANY_CLASSES),
    Step("Drift", "drift_years.py", DRIFT, f"{DRIFT} --years 20 --sites 10", 60, peers=("river",)),
    Step("Sets of labels", "label_sets.py", "{known} {photos}", "{known} {photos} --splits 5"),
    Step("Where to look", "where_to_look.py", "{known} {photos}", "{known} {photos} --turns 50"),
    Step("A planted outlier", "planted_outlier.py", "{run_mv2} {data}/hymenoptera", None, 20),
    Step("Crop and resize", "resize_rules.py", "{imagenet}", None, 20),
    Step("Questions of Square", "square_speed.py", "{model} {imagenet}", "{model} {imagenet} 8 50", peers=ATTACKS),
    Step("Gradients of attacks", "gradient_attack_speed.py", "{model}", minutes=20),
    Step("Corruptions", "corruptions.py", CORRUPTIONS, f"{CORRUPTIONS} --photos 4", peers=("imagecorruptions",)),
)
STEPS = (*HEADLINES, *(replace(step, script=STUDIES + step.script) for step in OF_STUDIES))


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
