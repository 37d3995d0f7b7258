"""What every page is made of: templates, plots as SVG, pictures as data URIs."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import cv2
import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from rich.cells import cell_len, set_cell_size

from edge_tl.report.common.pairs import p_words
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sinks.draw.fonts import packaged_fonts

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

OTHER_SCRIPTS = (
    "Noto Sans",
    "Noto Sans Thai",
    "Loma",
    "Tahoma",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans CJK JP",
)
"""Fonts for letters that the first has not. A page takes the reader's; a PNG must draw them here."""


def _families() -> list[str]:
    """Families for the letters of labels, in the order they are asked: the machine's and those that came by pip."""
    packaged = {str(file.path) for file in packaged_fonts("")}
    for path in sorted(packaged):
        with contextlib.suppress(OSError, RuntimeError):  # FreeType's for a file that is no font
            fontManager.addfont(path)
    here = {font.name for font in fontManager.ttflist}
    others = {font.name for font in fontManager.ttflist if font.fname in packaged} - set(OTHER_SCRIPTS)
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in here), *sorted(others), "sans-serif"]


STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: any script, in the reader's own fonts
    "svg.hashsalt": "edge-tl",  # the same page for the same run
    "font.family": _families(),
    "text.parse_math": False,  # a dollar in a label is a dollar
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888",
    "axes.grid": True,
    "grid.color": "#8886",  # faint on white and, turned round, on black
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
BLUE, ORANGE, GREY = "#2364aa", "#d1603d", "#8a8f98"
HALF = (4.9, 3.6)
"""Inches of a plot that takes half of a page's width, so that a phone shows its letters at a readable size."""

_environment = Environment(
    loader=PackageLoader("edge_tl.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["percent"] = lambda rate: f"{100 * rate:.1f} %"
_environment.filters["p_words"] = p_words


def render(template: str, **values: Any) -> str:
    """The page of a template below `templates/`."""
    return _environment.get_template(template).render(**values)


def styled(plot: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Draw what `plot` draws in the pages' style; the settings of a notebook that calls it stay as they are."""

    @functools.wraps(plot)
    def inside(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        with matplotlib.rc_context(STYLE):
            return plot(*arguments, **named)

    return inside


def short(label: str, cells: int = 24) -> str:
    """A label for an axis or a legend: without its middle where it is wider than `cells` columns of a terminal."""
    if cell_len(label) <= cells:
        return label
    end = set_cell_size(label[::-1], cells // 3)[::-1].lstrip()
    return f"{set_cell_size(label, cells - cells // 3 - 1).rstrip()}…{end}"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def svg(*figures: Figure) -> Markup:
    """The figures as SVG elements that scale with the page; letters, of any script, are drawn in the reader's fonts.

    Who cannot see one is told its title and axes.
    """
    return Markup("").join(map(_svg, figures))


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    with _any_letters():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    words = "; ".join(
        f"{axes.get_title()}: {axes.get_ylabel()} against {axes.get_xlabel()}".removeprefix(": ")
        for axes in figure.axes
        if axes.get_xlabel()
    )
    start = Markup('<svg role="img" aria-label="{}"').format(f"plot: {words}")
    return start + Markup(text[text.index("<svg") + 4 :])


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as a PNG on white. A letter that no font of this machine has is a box."""
    buffer = io.BytesIO()
    with _any_letters():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


@contextlib.contextmanager
def _any_letters() -> Iterator[None]:
    """Draw without a warning for each letter that no font here has: people name their classes in their own script."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def picture(
    frame: Frame,
    side: int,
    encoding: Sequence[int] = (cv2.IMWRITE_JPEG_QUALITY, 82),
    interpolation: int = cv2.INTER_AREA,
) -> str:
    """A data URI of the frame, BGR, shrunk to fit a square of `side` pixels; JPEG. encoding: OpenCV's pairs for the writer."""
    scale = min(1.0, side / max(frame.shape[:2]))
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    small = cv2.resize(frame, size, interpolation=interpolation) if scale < 1 else frame
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(small), list(encoding))
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
