"""`edge-tl inspect MODEL`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tl.cli.console import percent, say
from edge_tl_runtime.modelfile.spec import SPEC_VERSION, ModelSpec

MAX_LABELS = 20
ADOPTED_KEY = "adopted"
"""Of the contract's `export`: where a file that `adopt` made is from."""


@click.command(short_help="Show what a model file says of itself.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole contract as JSON.")
def command(model: Path, as_json: bool) -> None:
    """Check the checksum of MODEL, an ONNX file made by edge-tl, and print its contract."""
    from edge_tl_runtime.core.files import sha256
    from edge_tl_runtime.images.asked_geometry import described
    from edge_tl_runtime.inference.ood import EARLIER_KEY
    from edge_tl_runtime.machine.cpu import made_for_target, target_warning, this_target
    from edge_tl_runtime.modelfile.onnx import parse_spec, read_model

    data = read_model(model)
    spec = parse_spec(data, str(model))
    warning = target_warning(spec)
    if as_json:
        facts = {"bytes": len(data), "sha256": sha256(data), "target_warning": warning}
        click.echo(json.dumps({**facts, **spec.to_dict()}, ensure_ascii=False))
        return
    rule, accuracy, test = spec.resize, spec.validation, spec.self_test
    labels = ", ".join(spec.labels[:MAX_LABELS])
    if len(spec.labels) > MAX_LABELS:
        labels += f", and {len(spec.labels) - MAX_LABELS} more"
    evaluated = "never evaluated"
    if accuracy is not None:
        low, high = accuracy.ci95
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        evaluated = f"top-1 {percent(accuracy.top1)} of {accuracy.n} photos ({interval}), {accuracy.data}"
    lines = {
        "file": f"{model}, {len(data) / 1e6:.2f} MB, checksum intact",
        "contract": _contract(spec),
        "sha256": sha256(data),
        "network": f"{spec.arch}, {spec.precision}",
        "labels": f"{len(spec.labels)}: {labels}",
        "target": f"{made_for_target(spec) or ('not recorded' if spec.precision == 'int8' else 'any')}; here {this_target()}",
        "input": f"{rule.width}x{rule.height} px {rule.color_order}, uint8; centre crop {rule.crop_pct:g}, {rule.resample}",
        "looks at": "whole pictures" if rule.geometry is None else described(rule.geometry),
        "normalize": _normalization(spec),
        "scores": f"{spec.scores.activation}, temperature {spec.scores.temperature:g}",
        "accuracy": evaluated,
        "OOD score": _ood_score(spec),
        "sets": _label_sets(spec),
        "training": _settings(spec.training),
        "has seen": "not listed" if spec.training_images is None else spec.training_images.describe(),
        "export": _settings(
            {key: value for key, value in spec.export.items() if key not in (EARLIER_KEY, ADOPTED_KEY)}
        ),
        "adopted": _settings(origin) if isinstance(origin := spec.export.get(ADOPTED_KEY), dict) else "no",
        "made from": spec.parent_sha256 or "unknown",
        "self-test": "none" if test is None else f"{spec.labels[test.top1]!r}, scores within {test.tolerance:g}",
    }
    width = max(map(len, lines))
    for name, text in lines.items():
        click.echo(f"{name:<{width}}  {text}")
    if warning:
        say(warning)


def _ood_score(spec: ModelSpec) -> str:
    """The thresholds beyond which a photo is unknown, or why there are none."""
    from edge_tl_runtime.core.errors import BadModelError
    from edge_tl_runtime.inference.ood import KEPT, ood_thresholds_of
    from edge_tl_runtime.inference.usual_keep import usual_keep

    try:
        found = ood_thresholds_of(spec)
    except BadModelError as error:
        return str(error)
    if found is None:
        return "no thresholds"
    keep = usual_keep(spec, KEPT)
    return found.describe() + ("" if keep == KEPT else f"; {100 * keep:g} % by default, which background photos chose")


def _label_sets(spec: ModelSpec) -> str:
    """For which coverages there are sets of labels, and the probability that a label must reach."""
    from edge_tl_runtime.inference.label_sets import stored_thresholds

    if spec.label_sets is None:
        return "none"
    levels = (
        f"{100 * level:g} %: {'the likeliest alone' if p >= 1 else f'labels from {100 * p:.3g} % on'}"
        for level, p in stored_thresholds(spec.label_sets).items()
    )
    return f"{', '.join(levels)}; placed by {spec.label_sets.n} photos, {spec.label_sets.data}"


def _contract(spec: ModelSpec) -> str:
    """Its version, what an older one lacks, and what is in it that this release does not use."""
    said = f"version {spec.version}"
    if spec.version == 1:
        said += (
            " of an older release: it does not list the photos it was trained on, so evaluate cannot leave them out; "
            "train and export again"
        )
    elif spec.version < SPEC_VERSION:
        said += " of an older release: it cannot compare features, so it misses most of what is unknown; export again"
    if unused := spec.unused():
        said += f"; kept and not used by this release: {', '.join(unused)}"
    return said


def _normalization(spec: ModelSpec) -> str:
    """In the unit of the contract, and in that of the pixels, which people write as often."""
    mean, std = spec.normalization.mean, spec.normalization.std
    if set(mean) == {0.0} and all(abs(255 * value - 1) < 1e-9 for value in std):
        return "none: pixels 0..255 as they are"
    units = ((1, "pixel/255"), (255, "pixels 0..255"))
    shown = (
        f"mean {', '.join(f'{scale * x:.6g}' for x in mean)}, std {', '.join(f'{scale * x:.6g}' for x in std)} of {unit}"
        for scale, unit in units
    )
    return "; ".join(shown)


def _settings(values: object) -> str:
    assert hasattr(values, "items")
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in ("", None)) or "none"
