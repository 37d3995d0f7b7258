"""Folders of `edge-tl attack` made by hand: what robustness.json holds, and uncropped pictures beside it."""

from __future__ import annotations

import copy
import json

import cv2
import numpy as np
import scipy.stats
from conftest import THAI, write_photo

from edge_tl_runtime.images.uncrop import uncrop
from edge_tl_runtime.modelfile.spec import ResizeRule

RULE = ResizeRule(height=40, width=48, crop_pct=0.875, resample="area-cubic")
EPSILONS = (0, 1, 2, 4)
LABELS = ("ant", THAI, "<script>alert(1)</script>")
PHOTOS = 20


def rate(count, n, **more):
    interval = scipy.stats.binomtest(count, n).proportion_ci(0.95, "wilson") if n else (0.0, 1.0)
    return {"rate": count / n if n else None, "count": count, "n": n, "ci95": list(interval), **more}


def attack(name, route, kind, fooled, n):
    """fooled: photos at epsilons 1, 2, 4."""
    radii = [str(epsilon) for epsilon in EPSILONS[1:]]
    return {
        "name": name,
        "route": route,
        "kind": kind,
        "attack": name,
        "paper": "Madry et al. 2018, arXiv 1706.06083",
        "success": {key: rate(count, n, bound=False) for key, count in zip(radii, fooled, strict=True)},
        "queries": {key: {"median": 3.0, "p90": 8.5} for key in radii},
        "curve": {key: [[1, 0], [4, count // 2], [21, count]] for key, count in zip(radii, fooled, strict=True)},
    }


def subject(name, right, left, attacks):
    """right: photos that are right when clean; left: under the worst attack at epsilons 1, 2, 4."""
    worst = {str(e): rate(k, PHOTOS, bound=False) for e, k in zip(EPSILONS, (right, *left), strict=True)}
    return {"name": name, "clean": rate(right, PHOTOS), "attackable": right, "worst": worst, "attacks": attacks}


def document_of(**changes):
    """Sixteen of twenty right; 8, 4 and 0 withstand."""
    model = subject(
        "INT8",
        16,
        (8, 4, 0),
        [
            attack("fgsm", "straight-through", "white-box", (3, 5, 9), 16),
            attack("pgd", "straight-through", "white-box", (7, 12, 16), 16),
            attack("pgd", "BPDA", "white-box", (8, 11, 16), 16),
            attack("pgd", "transfer", "transfer", (6, 10, 15), 16),
            attack("square", "", "black-box", (2, 6, 13), 16),
            attack("noise", "", "control", (0, 0, 1), 16),
        ],
    )
    counterpart = subject("FP32", 17, (9, 4, 0), [attack("pgd", "gradients", "white-box", (8, 13, 17), 17)])
    names = [f"{LABELS[1]}/{i:02}.jpg" for i in range(PHOTOS)]
    return {
        "format": 2,
        "model": {
            "path": "runs/bees/model-int8.onnx",
            "sha256": "ab" * 32,
            "precision": "int8",
            "arch": "lite0",
            "classes": 3,
        },
        "fp32_counterpart": {
            "path": "runs/bees/model.onnx",
            "sha256": "cd" * 32,
            "precision": "fp32",
            "arch": "lite0",
            "classes": 3,
        },
        "data": "val of bees",
        "n": PHOTOS,
        "data_sha256": "ef" * 32,
        "threat": {
            "norm": "linf",
            "where": "the network's input pixels, after crop and resize",
            "goal": "any wrong class",
            "knowledge": ["the file and its FP32 counterpart"],
            "epsilons": [float(epsilon) for epsilon in EPSILONS],
            "unit": "/255",
            "queries": 500,
        },
        "clean_accuracy": rate(16, PHOTOS),
        "robust_accuracy": model["worst"],
        "robust_accuracy_withheld": None,
        "success_rate": None,
        "headline": "80.0 % right, 40.0 % under attack at 1/255",
        "withheld": False,
        "alarms": [],
        "notes": [],
        "models_under_test": {"model": model, "fp32_counterpart": counterpart},
        "routes_absent": [],
        "faithfulness": {
            "text": "within 0.4 of an output step on 32 photos",
            "n": 32,
            "top1_equal": 32,
            "largest": 0.04,
            "step": 0.1,
            "integer": True,
            "holds": True,
        },
        "paired": {
            "1": {
                "only_model": 2,
                "only_fp32_counterpart": 3,
                "n": 20,
                "difference": -0.05,
                "ci95": [-0.27, 0.18],
                "p": 1.0,
            }
        },
        "smallest": {
            "norm": "l2",
            "unit": "L2 of pixels in 0..1",
            "model": {"median": 0.31, "p10": 0.1, "p90": 0.9, "n": 16},
            "fp32_counterpart": {"median": 0.30, "p10": 0.1, "p90": 0.8, "n": 17},
            "ratio": 1.02,
            "ci95": [0.95, 1.1],
        },
        "quantization": "INT8 loses 5.0 points more at 1/255 (-27 to 18).",
        "transfer": [
            {"epsilon": 1, "crafted_on": "FP32", "made": 8, "fooled": {"FP32": rate(8, 8), "INT8": rate(6, 8)}},
            {"epsilon": 1, "crafted_on": "INT8", "made": 7, "fooled": {"FP32": rate(5, 7), "INT8": rate(7, 7)}},
        ],
        "sanity": [
            {"name": "epsilon 0 is the clean accuracy", "text": "20 of 20 photos alike", "holds": True},
            {"name": "a large epsilon fools all: square", "text": "15 of 16 photos fooled", "holds": False},
        ],
        "survival": [
            {"name": "PNG read back by the runner", "threat": "same", "still": rate(16, 16)},
            {"name": "JPEG quality 95", "threat": "weaker", "still": rate(5, 16)},
        ],
        "outcomes": {
            "photos": names,
            "model": {
                "correct": "1" * 16 + "0" * 4,
                "robust": {"1": "1" * 8 + "0" * 12, "2": "1" * 4 + "0" * 16, "4": "0" * 20},
            },
        },
        "examples": [],
        "corruptions": None,
        "resize": RULE.to_dict(),
        "environment": {"machine": "x86_64", "cpu": "a CPU", "features": ["avx2", "avx512f"], "threads": 2}
        | {"provider": "CPUExecutionProvider", "gradients_on": "cpu", "python": "3.11.7", "versions": {}},
        "settings": {
            "preset": "quick",
            "norm": "linf",
            "epsilons": "",
            "photos": 0,
            "split": "val",
            "target": "",
            "source": "",
        }
        | {"queries": 0, "corruptions": "", "device": "auto", "seed": 0},
        "skipped": [],
        "seconds": 61.2,
        "complete": True,
        **changes,
    }


def lean(**changes):
    """The same with two attacks and the control: a page that is drawn sooner."""
    document = document_of(**changes)
    model = document["models_under_test"]["model"]
    model["attacks"] = [
        item for item in model["attacks"] if item["name"] in ("square", "noise") or item["route"] == "BPDA"
    ]
    return document


def pixels_of(seed, epsilon):
    """A photo and the photo with every colour value of its left half moved by epsilon."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 190, (5, 6, 3)).astype(np.uint8)
    clean = cv2.resize(small, (RULE.width, RULE.height), interpolation=cv2.INTER_CUBIC)
    adversarial = clean.copy()
    adversarial[:, : RULE.width // 2] += np.uint8(epsilon)
    return clean, adversarial


def write_folder(folder, document=None, examples=3):
    """An attack's folder; examples: adversarial pictures in it, all at epsilon 1 but the last."""
    document = document or document_of()
    folder.mkdir(parents=True, exist_ok=True)
    document["examples"] = []
    for number in range(examples):
        epsilon = 1 if number < examples - 1 else 4
        places = f"clean/{number:04}-a.png", f"adversarial/eps-{epsilon}/{number:04}-a.png"
        for place, picture in zip(places, pixels_of(number, epsilon), strict=True):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            write_photo(folder / place, uncrop(picture, RULE))
        document["examples"].append(
            {
                "photo": f"{LABELS[1]}/{number:02}.jpg",
                "truth": LABELS[1],
                "before": {"label": LABELS[1], "confidence": 0.97},
                "after": {"label": LABELS[2], "confidence": 0.999 - number / 100},
                "epsilon": epsilon,
                "size": float(epsilon),
                "attack": "pgd",
                "route": "BPDA",
                "clean": places[0],
                "adversarial": places[1],
            }
        )
    (folder / "robustness.json").write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    return folder


WITHHELD = {
    "robust_accuracy": None,
    "robust_accuracy_withheld": {"1": rate(8, PHOTOS), "2": rate(4, PHOTOS)},
    "withheld": True,
    "headline": "the robust accuracy is withheld",
    "alarms": [
        {
            "name": "query attack beats gradients",
            "text": "9 photos that only the weaker attack fooled at epsilon 2, 1 the other way",
            "explanation": "It knows less, so the gradients must be misleading.",
            "role": "model",
        }
    ],
}


def cell(count):
    """Accuracy under one corruption at one severity, beside 16 of 20 without."""
    return rate(count, PHOTOS, error_over_clean=(16 - count) / PHOTOS, error_over_clean_ci95=[-0.2, 0.5])


def means(mean):
    return {"mean": mean, "mean_ci95": [0.2, 0.9], "error_over_clean": 0.8 - mean, "error_ratio": (1 - mean) / 0.2}


CORRUPTED = {
    "clean": rate(16, PHOTOS),
    "mean_accuracy": 0.55,
    "mean_accuracy_ci95": [0.34, 0.74],
    "mean_error_over_clean": 0.25,
    "mean_error_ratio": 2.25,
    "sets": {},
    "rows": [
        {"name": name, "group": group, "stage": "frame", "source": "a camera"}
        | {"by_severity": {"1": cell(one), "5": cell(five)}, **means(mean)}
        for name, group, one, five, mean in (
            ("mjpg", "camera", 16, 10, 0.65),
            ("low_light", "camera", 12, 4, 0.4),
            ("fog", "weather", 14, 10, 0.6),
        )
    ],
    "severities": [1, 5],
    "camera_side": 480,
    "seed": 0,
    "complete": False,
    "skipped": [],
}


def hardened(correct, robust, **changes):
    """A document with these outcomes: bits of the photos, robust by epsilon."""
    document = copy.deepcopy(document_of(**changes))
    bits = {"0": correct, **robust}
    document["outcomes"]["model"] = {"correct": correct, "robust": robust}
    document["clean_accuracy"] = rate(correct.count("1"), PHOTOS)
    document["robust_accuracy"] = {key: rate(b.count("1"), PHOTOS, bound=False) for key, b in bits.items()}
    return document
