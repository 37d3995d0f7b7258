"""The page of a robustness evaluation: what the figure is, whether to believe it, and what fooled the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from edge_tl.adversarial.document import DOCUMENT, FORMATS, in_words_of_now
from edge_tl.adversarial.documents import RobustnessDocument
from edge_tl.report.common.documents import Needed, read_document
from edge_tl.report.common.html import png, render, styled, svg
from edge_tl.report.robustness import pictures as pictures
from edge_tl.report.robustness import plots as plots
from edge_tl.report.robustness.dreams import Gallery, read_gallery
from edge_tl.report.run.page import flat
from edge_tl_runtime.core.documents import RateDocument, checked
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import write_bytes, write_text
from edge_tl_runtime.core.statistics import rate
from edge_tl_runtime.modelfile.spec import ResizeRule

PAGE, PLOTS = "robustness.html", "plots"
WORST = 12
DPI = 144

Document = Mapping[str, Any]
"""What robustness.json holds."""

_NEEDED: Needed = {
    "model": dict,
    "data": str,
    "n": int,
    "threat": dict,
    "clean_accuracy": dict,
    "headline": str,
    "withheld": bool,
    "alarms": list,
    "models_under_test": dict,
    "examples": list,
    "resize": dict,
    "environment": dict,
    "settings": dict,
}
_NORMS = {
    "linf": "every colour value of every pixel may change by at most epsilon of 255 (maximum norm)",
    "l2": "the change of all colour values together, as a vector, is at most epsilon long, with colours in 0..1 (Euclidean norm)",
}
_WAYS = {
    "gradients": "with the gradients of the file itself",
    "straight-through": "with the gradients of the quantized file itself, as if it did not round",
    "BPDA": "with the file's own scores, and gradients of the FP32 file that it was made from",
    "transfer": "pictures made against the FP32 file, tried on this one",
    "black-box": "with the scores that the file answers alone",
}


@dataclass(frozen=True)
class Block:
    """Rows of the table of success. union: fooled by any attack but the control, by epsilon."""

    name: str
    attacks: Sequence[Mapping[str, Any]]
    union: Mapping[str, Mapping[str, Any]]


def read_robustness(folder: Path) -> dict[str, Any]:
    """The document of an attack's folder. Raises UsageError where there is none, or none that this release can read."""
    document = read_document(folder, DOCUMENT, FORMATS, _NEEDED, "edge-tl attack", in_words_of_now)
    if "model" not in document["models_under_test"]:
        raise UsageError(
            f"{folder / DOCUMENT} is damaged: it has no attacks on the file itself; run `edge-tl attack` again"
        )
    # Documents of earlier releases with this format do not have it.
    document.setdefault("training_overlap", None)
    try:
        checked(document, RobustnessDocument)
    except ValueError as error:
        raise UsageError(f"{folder / DOCUMENT} is damaged: {error}; run `edge-tl attack` again") from None
    return document


def write_robustness_page(folder: Path, dreams: Path | None = None) -> Path:
    """Write `robustness.html` and `plots/*.png` into an attack's folder; returns the page.

    dreams: a folder that `edge-tl dream` wrote, to be shown on the page. Raises UsageError for a folder that is none of these.
    """
    document = read_robustness(folder)
    norm = document["threat"]["norm"]
    rule = ResizeRule.from_dict(document["resize"], "resize")
    heat = _heat(folder, document, rule)
    gallery = None if dreams is None else read_gallery(dreams, document["model"]["sha256"])
    figures = dict(_figures(document, heat, gallery))
    drawn = {name: _drawn(folder / PLOTS / f"{name}.png", figure) for name, figure in figures.items()}
    worst = list(pictures.triplets(folder, document["examples"], rule, WORST))
    models = document["models_under_test"]
    page = render(
        "robustness.html.j2",
        version=version("edge-tl"),
        name=folder.resolve().name,
        document=document,
        withheld=withheld_epsilons(document),
        targeted=is_targeted(document),
        norm_words=_NORMS.get(norm, norm),
        epsilon=lambda key: epsilon_words(norm, key),
        keys=epsilons(document),
        shown=shown_rates(document),
        blocks=[_block(model) for model in models.values()],
        papers=_papers(models.values()),
        plots=drawn,
        ways=[{"name": way, "words": _WAYS.get(way, ""), "slug": _slug(way)} for way in _routes(models["model"])],
        heat=heat,
        gallery=gallery,
        corruptions=document.get("corruptions"),
        worst=worst,
        gone=len(document["examples"]) > 0 and not worst,
        settings=flat(document["settings"]),
        environment=flat(document["environment"]),
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def is_targeted(document: Document) -> bool:
    """Whether the figure by epsilon is how many photos get the wanted answer, rather than how many stay right."""
    return document.get("success_rate") is not None


def shown_rates(document: Document) -> Mapping[str, RateDocument]:
    """The figure by epsilon, without those that an alarm withholds."""
    rates = document.get("success_rate") or document.get("robust_accuracy") or {}
    hidden = withheld_epsilons(document)
    return {key: figure for key, figure in rates.items() if key not in hidden}


def withheld_epsilons(document: Document) -> list[str]:
    """Where an alarm withholds the figure, ascending: earlier releases withheld it everywhere."""
    if not document["withheld"]:
        return []
    if document.get("robust_accuracy") is None:
        return epsilons(document)
    return sorted(document["robust_accuracy_withheld"] or {}, key=float)


def epsilons(document: Document) -> list[str]:
    """The radii above 0, as the document writes them, ascending."""
    return sorted((key for key in document["models_under_test"]["model"]["worst"] if float(key) > 0), key=float)


def epsilon_words(norm: str, key: str | float) -> str:
    """A radius as a person reads it: of 255 for the maximum norm, bare for L2."""
    if not float(key):
        return "no attack"
    return f"{float(key):g}/255" if norm == "linf" else f"{float(key):g}"


def _block(model: Mapping[str, Any]) -> Block:
    return Block(model["name"], model["attacks"], _union(model))


def _union(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Fooled by the worst of all attacks, among the photos that were right before."""
    tried, union = model["attackable"], {}
    for key, left in model["worst"].items():
        fooled = model["clean"]["count"] - left["count"]
        union[key] = dict(rate(fooled, tried, bound=left.get("bound", False)))
    return union


def _papers(models: Any) -> dict[str, str]:
    """Attacks and where they are from, each once."""
    return {attack["name"]: attack["paper"] for model in models for attack in model["attacks"] if attack.get("paper")}


def _routes(model: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Attacks by the way they take into the file; the control is none."""
    routes: dict[str, list[Mapping[str, Any]]] = {}
    for attack in model["attacks"]:
        if attack["kind"] != "control":
            routes.setdefault(attack["route"] or attack["kind"], []).append(attack)
    return routes


def _figures(document: Document, heat: pictures.Heat | None, gallery: Gallery | None) -> Iterator[tuple[str, Figure]]:
    """By the name of the PNG file."""
    norm, models = document["threat"]["norm"], document["models_under_test"]
    model = models["model"]
    control = next((attack["success"] for attack in model["attacks"] if attack["kind"] == "control"), None)
    suspect = {alarm["role"] for alarm in document["alarms"]} if document["withheld"] else set()
    curves = {
        each["name"] + (", withheld" if key in suspect else ""): _union(each)
        if is_targeted(document)
        else each["worst"]
        for key, each in models.items()
    }
    noise = control
    if control is not None and not is_targeted(document):
        noise = _remaining_accuracy(model["clean"], control)
    yield "worst", plots.worst(curves, norm, is_targeted(document), noise)
    for way, attacks in _routes(model).items():
        yield f"success-{_slug(way)}", plots.success(way, attacks, norm, control)
        chosen = _most_informative_epsilon(attacks)
        figure = plots.queries(way, attacks, chosen, f"epsilon {epsilon_words(norm, chosen)}")
        if figure is not None:
            yield f"queries-{_slug(way)}", figure
    if document.get("corruptions"):
        yield "corruptions", plots.severities(*_by_group(document["corruptions"]))
    if heat is not None:
        yield "heat", plots.heat_map(heat)
        yield "heat-profile", plots.heat_profile(heat)
    if gallery is not None:
        yield "dreams", gallery.climb


def _by_group(corruptions: Mapping[str, Any]) -> tuple[dict[str, dict[int, float]], float]:
    """Mean accuracy, 0..1, over the corruptions of each group by severity; and without any."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in corruptions["rows"]:
        for severity, hits in row["by_severity"].items():
            values.setdefault(row["group"], {}).setdefault(int(severity), []).append(hits["rate"])
    means = {group: {level: sum(x) / len(x) for level, x in levels.items()} for group, levels in values.items()}
    return means, corruptions["clean"]["rate"]


def _remaining_accuracy(
    clean: Mapping[str, Any], success: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Accuracy over all photos, 0..1, by epsilon from success among those that were right."""
    count, n = clean["count"], clean["n"]
    left = {key: {"rate": (count - fooled["count"]) / n if n else None} for key, fooled in success.items()}
    return {"0": dict(clean), **left}


def _most_informative_epsilon(attacks: Sequence[Mapping[str, Any]]) -> str:
    """The epsilon at which the best of the attacks fools nearest to half of the photos; the smallest of several."""
    best: dict[str, float] = {
        key: max(attack["success"][key]["rate"] or 0.0 for attack in attacks)
        for key in attacks[0]["success"]
        if float(key)
    }
    return min(best, key=lambda key: (abs(best[key] - 0.5), float(key)))


def _heat(folder: Path, document: Document, rule: ResizeRule) -> pictures.Heat | None:
    if not document["examples"]:
        return None
    epsilon = pictures.populated_epsilon(document["examples"])
    examples = [example for example in document["examples"] if float(example["epsilon"]) == epsilon]
    return pictures.heat(folder, examples, rule, f"epsilon {epsilon_words(document['threat']['norm'], epsilon)}")


@styled
def _drawn(path: Path, figure: Figure) -> Markup:
    """The figure for the page; a PNG of it goes to `path`."""
    write_bytes(path, png(figure, DPI))
    return svg(figure)


def _slug(route: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in route.lower())
