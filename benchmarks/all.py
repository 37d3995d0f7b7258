"""Run the benchmarks, one after another, and write what they found into one document, as `make bench` does.

    python benchmarks/all.py [--quick] [--only SCRIPT...] [-o FILE] [--into PAGE] [--keep FOLDER] [--list]

Without --only the headline scripts run; a study runs when it is named. The document is Markdown: for each script its table, then
what it printed. It is written anew after each script, and so is the section of a headline script in PAGE, so that an interrupted
run keeps what it had: name with --only what is left, and with --keep the folder of the models that were made. A script that
fails is named with its last line, leaves its section of PAGE as it was, and makes the exit code 1. EDGE_TL_TEST_DATA names the
folder of real photos; without it the scripts that need none run on the demo's. Other projects are found through
EDGE_TL_ULTRALYTICS and EDGE_TL_OPENVINO (an interpreter with their packages each) and EDGE_TL_IMAGECORRUPTIONS (a folder); a
script that needs one that is not named is skipped, and named too.

Adding a benchmark is a line in `steps.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ratios import TARGET, Ratio, counted, put_section, read, table
from steps import STEPS, STUDIES, Step, fields, shown, words
from workshop import FOUND, ROOT, SOURCES, Failed, Unavailable, Workshop, last_lines, run

from edge_tl.cli.console import say
from edge_tl_runtime.core.errors import EdgeTLError, UsageError
from edge_tl_runtime.core.files import write_text
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.machine.cpu import cpu_name, memory

HERE = Path(__file__).resolve().parent
RESULTS = ROOT / "build" / "bench"
PACKAGES = ("onnxruntime", "opencv-python", "numpy", "torch")
PEERS = ("ultralytics", "openvino", "imagecorruptions")
"""Materials that bring packages of their own."""


@dataclass
class Outcome:
    """What became of a step. state: "waits", then "ran", "failed" or "skipped"; reason: why not "ran".

    setting: day, machine and versions. ratios, refused: as `read` gives them. output, errors: what its script printed, and the
    end of what it complained of.
    """

    step: Step
    quick: bool
    state: str = "waits"
    reason: str = ""
    setting: str = ""
    seconds: float = 0.0
    ratios: list[Ratio] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    output: str = ""
    errors: str = ""

    @property
    def call(self) -> str:
        return f"python benchmarks/{self.step.script} {shown(self.step.arguments(self.quick))}".strip()

    def section(self, rows: Iterable[Ratio], level: str) -> str:
        """The part of a page: command, setting, table."""
        found = table(rows) or "No figure was recorded."
        quick = "a quick run, " if self.quick else ""
        return f"{level} {self.step.title}\n\n`{self.call}`: {quick}{self.setting}\n\n{found}"

    def headlines(self) -> str:
        return self.section([row for row in self.ratios if row.headline], "###")

    def text(self) -> str:
        parts = [self.section(self.ratios, "##"), f"{self.seconds:.0f} s. It printed:\n", self.output]
        return "\n".join([*parts, f"```\n{self.errors}\n```\n"] if self.errors else parts)


def document(outcomes: Sequence[Outcome]) -> str:
    """What all found and what is missing, then each script's part."""
    return "\n".join(
        ["# Benchmarks\n", summary(outcomes), *(o.text() for o in outcomes if o.state in ("ran", "failed"))]
    )


def summary(outcomes: Sequence[Outcome]) -> str:
    lines = [counted([ratio for outcome in outcomes for ratio in outcome.ratios]) + ".", ""]
    for outcome in outcomes:
        name = f"{outcome.step.title} (`{outcome.step.script}`)"
        if outcome.state != "ran":
            lines.append(f"- {outcome.state}: {name}: {outcome.reason}")
        elif not outcome.ratios:
            lines.append(f"- without a figure: {name}")
        lines += [f"- {name}: {reason}" for reason in outcome.refused]
    return "\n".join(lines).rstrip() + "\n"


def versions(python: str, names: Sequence[str], folder: str = "") -> str:
    """Of the packages that an interpreter has, those that are there; "" where it does not run."""
    code = (
        "import json, sys\nfrom importlib.metadata import distributions\nfound = {}\nfor one in distributions():\n"
        "    found.setdefault((one.metadata['Name'] or '').lower().replace('_', '-'), one.version)\n"
        "print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"
    )
    more = {"PYTHONPATH": folder} if folder else {}
    try:
        done = subprocess.run(
            [python, "-c", code, *names],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={**os.environ, **more},
        )
        return ", ".join(f"{name} {version}" for name, version in json.loads(done.stdout).items())
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""


def setting(step: Step, quick: bool, shop: Workshop) -> str:
    """What the figures of a step depend on beside the code: the day, the machine and the versions."""
    said = [f"{datetime.now():%Y-%m-%d}, {cpu_name()}, {usable_cores()} cores, {memory()[0] / 2**30:.1f} GiB"]
    said += [f"Python {sys.version.split()[0]}, {versions(shop.find(step.python), (*PACKAGES, *step.peers))}"]
    for name in (name for name in fields(step.arguments(quick)) if name in PEERS):
        with contextlib.suppress(Unavailable):
            path = shop.find(name)
            folder = path if Path(path).is_dir() else ""
            if found := versions(sys.executable if folder else path, step.peers, folder):
                said.append(f"{name}: {found}")
    return "; ".join(said) + f"; load {os.getloadavg()[0]:.1f} before"


def run_step(outcome: Outcome, shop: Workshop, scripts: Path) -> None:
    """Bring an outcome to "ran", "failed" or "skipped"."""
    step = outcome.step
    with tempfile.TemporaryDirectory() as name:
        out, err, figures = (Path(name, end) for end in ("out", "err", "figures"))
        started = time.perf_counter()
        try:
            if outcome.quick and step.quick is None:
                raise Unavailable("in a full run only")
            # What has to be brought along is asked for first, so that nothing is made for a step that is skipped.
            for need in FOUND.keys() & set(step.needs(outcome.quick)):
                shop.find(need)
            given = words(step.arguments(outcome.quick), shop)
            python = shop.find(step.python)
            more = {TARGET: str(figures)}
            if python != sys.executable:
                more["PYTHONPATH"] = SOURCES
            outcome.setting = setting(step, outcome.quick, shop)
            started = time.perf_counter()
            run([python, str(scripts / step.script), *given], 60 * step.minutes, out, err, more)
            outcome.state = "ran"
        except Unavailable as reason:
            outcome.state, outcome.reason = "skipped", str(reason)
        except Failed as reason:
            outcome.state, outcome.reason = "failed", str(reason)
            outcome.errors = last_lines(err, 20)
        except KeyboardInterrupt:
            outcome.state, outcome.reason = "failed", "interrupted"
            raise
        finally:
            outcome.seconds = time.perf_counter() - started
            outcome.output = out.read_text("utf-8", "replace") if out.exists() else ""
            outcome.ratios, outcome.refused = read(figures)


def run_all(outcomes: Sequence[Outcome], scripts: Path, shop: Workshop, target: Path, page: Path | None) -> bool:
    """Every step in turn; document and page are written after each. Returns whether the run was interrupted."""
    try:
        for number, outcome in enumerate(outcomes, 1):
            step = outcome.step
            say(f"[{number}/{len(outcomes)}] {step.title} ({step.script})")
            run_step(outcome, shop, scripts)
            if outcome.ratios:
                print(outcome.section(outcome.ratios, "##"), flush=True)
            say(f"    {outcome.state}, {outcome.seconds:.0f} s{outcome.reason and f': {outcome.reason}'}")
            if page and outcome.state == "ran" and outcome.ratios and not step.script.startswith(STUDIES):
                write_text(page, put_section(page.read_text("utf-8"), step.title, outcome.headlines()))
            write_text(target, document(outcomes))
    except KeyboardInterrupt:
        for outcome in outcomes:
            if outcome.state == "waits":
                outcome.state, outcome.reason = "skipped", "interrupted before it"
        write_text(target, document(outcomes))
        return True
    return False


def listed(steps: Sequence[Step], quick: bool) -> str:
    lines = []
    for step in steps:
        if quick and step.quick is None:
            continue
        needs = ", ".join(name.upper() for name in step.needs(quick)) or "nothing"
        lines.append(f"{step.script:34} {step.title}; needs {needs}; at most {step.minutes:g} min")
        lines.append(f"{'':34} {shown(step.arguments(quick))}".rstrip())
    return "\n".join(lines)


def chosen(steps: Sequence[Step], only: Sequence[str]) -> list[Step]:
    """Steps of the scripts named, with or without folder and ending; without names the headline ones. Raises UsageError."""
    wanted = {Path(name).stem for name in only}
    if unknown := wanted - {Path(step.script).stem for step in steps}:
        raise UsageError(f"no script is called {', '.join(sorted(unknown))}; --list names them all")
    if wanted:
        return [step for step in steps if Path(step.script).stem in wanted]
    return [step for step in steps if not step.script.startswith(STUDIES)]


def require_place(page: Path) -> None:
    """Raises UsageError unless a section can be put into a Markdown file: asked before the hours, not after them."""
    try:
        put_section(page.read_text("utf-8"), "", "")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot put sections into {page}: {getattr(error, 'strerror', None) or error}") from None


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Shorter arguments, and no long steps.")
    parser.add_argument("--only", nargs="+", default=[], metavar="SCRIPT", help="These alone, studies too.")
    parser.add_argument("--list", action="store_true", help="Name the steps and run none.")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="The document; a dated one in build/bench.")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="Also put the section of each script into this page.")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Make models there, or take those of a run before.")
    return parser.parse_args(arguments)


def interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None, steps: Sequence[Step] = STEPS, scripts: Path = HERE) -> int:
    """scripts: the folder that the steps' files lie in. Returns the exit code."""
    given = options(arguments)
    if given.list:
        print(listed(steps, given.quick))
        return 0
    try:
        outcomes = [Outcome(step, given.quick) for step in chosen(steps, given.only)]
        if given.into:
            require_place(given.into)
        target = given.output or RESULTS / f"{datetime.now():%Y-%m-%d-%H%M}.md"
        with tempfile.TemporaryDirectory() as folder:
            place = given.keep or Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            shop = Workshop(place, lambda line: say(f"    {line}"))
            cut = run_all(outcomes, scripts, shop, target, given.into)
        print(summary(outcomes))
    except EdgeTLError as error:
        say(f"error: {error}")
        return error.exit_code
    say(f"wrote {target}")
    return 130 if cut else int(any(outcome.state == "failed" for outcome in outcomes))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    sys.exit(main())
