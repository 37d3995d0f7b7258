"""The dream gallery of a robustness page: what `edge-tl dream` wrote, to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from edge_tl.adversarial.document import DREAMS_DOCUMENT, DREAMS_FORMATS, in_words_of_now
from edge_tl.adversarial.documents import DreamsDocument
from edge_tl.report.common.documents import Needed, read_document
from edge_tl.report.robustness import plots as plots
from edge_tl.report.robustness.pictures import as_data, as_seen
from edge_tl_runtime.core.documents import checked
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.modelfile.spec import ResizeRule

_NEEDED: Needed = {
    "sha256": str,
    "resize": dict,
    "settings": dict,
    "dreams": list,
    "gradients_of": str,
}


@dataclass(frozen=True)
class Shown:
    """A picture, as a data URI, and what the file said of it: logit, confidence, rank, best."""

    name: str
    image: str
    said: Mapping[str, Any]


@dataclass(frozen=True)
class Dreamt:
    """The pictures of one class, the dream first. start: what the file said before the climb."""

    label: str
    start: Mapping[str, Any]
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Gallery:
    """Dreams that are still in their folder. foreign: of another file than was attacked. climb: confidence against steps."""

    folder: str
    steps: int
    basis: str
    gradients_of: str
    foreign: bool
    dreams: tuple[Dreamt, ...]
    climb: Figure


def read_gallery(folder: Path, model_sha256: str) -> Gallery:
    """The dreams of a folder of `edge-tl dream`. Raises UsageError for one that is none, or whose pictures are gone."""
    document = read_document(folder, DREAMS_DOCUMENT, DREAMS_FORMATS, _NEEDED, "edge-tl dream", in_words_of_now)
    try:
        checked(document, DreamsDocument)
    except ValueError as error:
        raise UsageError(f"{folder / DREAMS_DOCUMENT} is damaged: {error}; run `edge-tl dream` again") from None
    rule = ResizeRule.from_dict(document["resize"], "resize")
    dreams = tuple(_dreams(folder, document, rule))
    if not dreams:
        raise UsageError(
            f"{folder} holds none of the pictures that its {DREAMS_DOCUMENT} names; run `edge-tl dream` again"
        )
    settings = document["settings"]
    return Gallery(
        str(folder),
        settings["steps"],
        settings["basis"],
        document["gradients_of"],
        document["sha256"] != model_sha256,
        dreams,
        plots.climb({item["label"]: item["trace"] for item in document["dreams"]}),
    )


def _dreams(folder: Path, document: Mapping[str, Any], rule: ResizeRule) -> Iterator[Dreamt]:
    for item in document["dreams"]:
        pictures = []
        for name in ("dream", "control"):
            seen = as_seen(folder, item[name]["picture"], rule) if name in item else None
            if seen is not None:
                pictures.append(Shown(name, as_data(seen), item[name]))
        if pictures:
            yield Dreamt(item["label"], item["start"], tuple(pictures))
