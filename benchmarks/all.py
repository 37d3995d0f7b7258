"""Every comparison of the project in one run, and one table of what they found, as `make bench` runs them.

    python benchmarks/all.py [--quick] [--only SCRIPT...] [-o FILE] [--into FILE] [--keep FOLDER [--go-on]] [--list]

The result is a Markdown file: the table first, then what each script printed. It is written anew after each step, so that a run
that is cut off keeps what it had; with --keep, --go-on takes it up after the steps that ran to their end, on the same machine
with the same versions. It does not know of changes to the code. A step that fails is named under the table with its last line,
and the exit code is 1 at the end. EDGE_TL_TEST_DATA names the folder of real photographs; without it the steps that need none run
on the demo's. Other projects are found through EDGE_TL_ULTRALYTICS and EDGE_TL_OPENVINO (an interpreter with their packages each)
and EDGE_TL_IMAGECORRUPTIONS (a folder); what needs one that is not named is skipped, and named too.

Adding a benchmark is a line in `steps.STEPS`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ratios import END, TARGET, Ratio, counted, put_between, read, table
from steps import STEPS, Step, shown, words
from workshop import FOUND, ROOT, SOURCES, Failed, Unavailable, Workshop, last_lines, run

from edge_tl.cli.console import say
from edge_tl_runtime.errors import EdgeTLError, UsageError
from edge_tl_runtime.files import write_text
from edge_tl_runtime.machine import cpu_name, memory
from edge_tl_runtime.photos import usable_cores

HERE = Path(__file__).resolve().parent
RESULTS = ROOT / "build" / "bench"
PACKAGES = ("edge-tl", "onnxruntime", "opencv-python", "numpy", "torch")
PEERS = (
    *("adversarial-robustness-toolbox", "pyautoattack", "torchattacks", "openvino", "nncf", "onnx-neural-compressor"),
    *("onnxruntime-openvino", "imagecorruptions", "ultralytics"),
)


@dataclass
class Outcome:
    """What became of a step. state: "waits", then "ran", "failed" or "skipped"; reason: why not "ran".

    output, errors: what its script printed, and the end of what it complained of. day: it ran then, in a sitting before; "":
    in this one. figures: the file of what it recorded.
    """

    step: Step
    state: str = "waits"
    reason: str = ""
    seconds: float = 0.0
    output: str = ""
    errors: str = ""
    day: str = ""
    figures: Path | None = None


@dataclass
class Report:
    """The document of a run."""

    heading: str
    outcomes: list[Outcome]
    quick: bool

    def block(self) -> str:
        """Machine, table, and what is missing from it: what stands in the documentation."""
        ratios, refused = self.figures()
        parts = [self.heading, counted(ratios) + ".", table(ratios).rstrip() or "No figure was recorded."]
        ran = [outcome for outcome in self.outcomes if outcome.state == "ran"]
        silent = sorted({outcome.step.script for outcome in ran} - {ratio.script for ratio in ratios})
        lines = [
            f"- {outcome.state}: {outcome.step.title} (`{outcome.step.script}`): {outcome.reason}"
            for outcome in self.missing
        ]
        lines += [f"- without a figure: `{script}`" for script in silent] + [f"- {reason}" for reason in refused]
        for day in sorted({outcome.day for outcome in ran if outcome.day}):
            names = dict.fromkeys(f"`{outcome.step.script}`" for outcome in ran if outcome.day == day)
            lines.append(f"- of a sitting before, {day}: {', '.join(names)}")
        return "\n\n".join([*parts, "\n".join(lines)] if lines else parts).rstrip() + "\n"

    def figures(self) -> tuple[list[Ratio], list[str]]:
        """Of all steps, in order; and why lines of them were left out."""
        ratios: list[Ratio] = []
        refused: list[str] = []
        for outcome in self.outcomes:
            if outcome.figures:
                found, wrong = read(outcome.figures)
                ratios += found
                refused += [f"`{outcome.step.script}`: {reason}" for reason in wrong]
        return ratios, refused

    @property
    def missing(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.state != "ran"]

    def text(self) -> str:
        parts = ["# Benchmarks\n", self.block()]
        for outcome in self.outcomes:
            if outcome.state in ("ran", "failed"):
                call = f"python benchmarks/{outcome.step.script} {shown(outcome.step.arguments(self.quick))}".strip()
                parts.append(f"## {outcome.step.title}\n\n`{call}`, {outcome.seconds:.0f} s\n\n{outcome.output}")
                if outcome.errors:
                    parts.append(f"```\n{outcome.errors}\n```\n")
        return "\n".join(parts)


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


def setting(shop: Workshop) -> list[str]:
    """What a figure depends on beside the code: the machine and the versions, a line each."""
    python = ".".join(map(str, sys.version_info[:3]))
    said = [f"{cpu_name()}, {usable_cores()} cores, {memory()[0] / 2**30:.1f} GiB"]
    said += [f"Python {python}, {versions(sys.executable, (*PACKAGES, *PEERS))}."]
    for name in ("ultralytics", "openvino", "imagecorruptions"):
        with contextlib.suppress(Unavailable):
            path = shop.find(name)
            folder = path if Path(path).is_dir() else ""
            found = versions(sys.executable if folder else path, [name] if folder else (*PACKAGES[1:], *PEERS), folder)
            said += [f"{name}: {found or 'it does not say its versions'}."]
    return said


def heading(lines: Sequence[str], quick: bool) -> str:
    machine, *rest = lines
    run = f"Of {datetime.now():%Y-%m-%d}{', a quick run' if quick else ''}"
    return "\n".join([f"{run}: {machine}, load before the start {os.getloadavg()[0]:.1f}.", *rest])


@dataclass(frozen=True)
class Sitting:
    """Where the steps of a run leave what they found, for this sitting and a next one.

    lines: as `setting` gives them; what was found under others is not taken. go_on: whether anything is.
    """

    shop: Workshop
    lines: Sequence[str]
    quick: bool
    go_on: bool

    def file(self, step: Step, end: str) -> Path:
        call = hashlib.sha256(step.arguments(self.quick).encode()).hexdigest()[:8]
        return self.shop.folder / f"step-{Path(step.script).stem}-{call}.{end}"

    def take(self, outcome: Outcome) -> bool:
        """Whether the step had run to its end in a sitting before that counts; if so the outcome is what it was."""
        if not self.go_on:
            return False
        try:
            found = json.loads(self.file(outcome.step, "json").read_text("utf-8"))
            same, seconds, day = found["setting"] == list(self.lines), float(found["seconds"]), str(found["day"])
            output = self.file(outcome.step, "out").read_text("utf-8", "replace")
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if same:
            outcome.state, outcome.seconds, outcome.day, outcome.output = "ran", seconds, day, output
        return same

    def clear(self, step: Step) -> None:
        """Nothing that a sitting before left of the step is there."""
        for end in ("json", "jsonl", "out", "err"):
            self.file(step, end).unlink(missing_ok=True)

    def mark(self, outcome: Outcome) -> None:
        found = {"setting": list(self.lines), "seconds": outcome.seconds, "day": f"{datetime.now():%Y-%m-%d}"}
        write_text(self.file(outcome.step, "json"), json.dumps(found))


def run_step(outcome: Outcome, sitting: Sitting, scripts: Path) -> None:
    """Bring an outcome to "ran", "failed" or "skipped"."""
    step, shop = outcome.step, sitting.shop
    out, err, outcome.figures = (sitting.file(step, end) for end in ("out", "err", "jsonl"))
    if sitting.take(outcome):
        return
    sitting.clear(step)
    out.write_text("")
    started = time.perf_counter()
    try:
        if sitting.quick and step.quick is None:
            raise Unavailable("in a full run only")
        # What has to be brought along is asked for first, so that nothing is made for a step that is skipped.
        for name in FOUND.keys() & set(step.needs(sitting.quick)):
            shop.find(name)
        given = words(step.arguments(sitting.quick), shop)
        python = shop.find(step.python)
        more = {TARGET: str(outcome.figures)}
        if python != sys.executable:
            more["PYTHONPATH"] = SOURCES
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
        outcome.seconds, outcome.output = time.perf_counter() - started, out.read_text("utf-8", "replace")
    if outcome.state == "ran":
        sitting.mark(outcome)


def run_all(
    steps: Sequence[Step], scripts: Path, shop: Workshop, target: Path, quick: bool, go_on: bool
) -> tuple[Report, bool]:
    """Every step in turn; the document is written after each. Returns it, and whether the run was interrupted."""
    report = Report("", [Outcome(step) for step in steps], quick)
    try:
        sitting = Sitting(shop, setting(shop), quick, go_on)
        report.heading = heading(sitting.lines, quick)
        for number, outcome in enumerate(report.outcomes, 1):
            say(f"[{number}/{len(steps)}] {outcome.step.title} ({outcome.step.script})")
            run_step(outcome, sitting, scripts)
            reason = outcome.reason or (outcome.day and f"in the sitting of {outcome.day}")
            say(f"    {outcome.state}, {outcome.seconds:.0f} s{f': {reason}' if reason else ''}")
            write_text(target, report.text())
        return report, False
    except KeyboardInterrupt:
        for outcome in report.outcomes:
            if outcome.state == "waits":
                outcome.state, outcome.reason = "skipped", "interrupted before it"
        write_text(target, report.text())
        return report, True


def listed(steps: Sequence[Step], quick: bool) -> str:
    lines = []
    for step in steps:
        if quick and step.quick is None:
            continue
        needs = ", ".join(name.upper() for name in step.needs(quick)) or "nothing"
        lines.append(f"{step.script:24} {step.title}; needs {needs}; at most {step.minutes:g} min")
        lines.append(f"{'':24} {shown(step.arguments(quick))}".rstrip())
    return "\n".join(lines)


def chosen(steps: Sequence[Step], only: Sequence[str]) -> list[Step]:
    """Steps of the scripts named, with or without their ending; all without names. Raises UsageError."""
    wanted = {name if name.endswith(".py") else f"{name}.py" for name in only}
    if unknown := wanted - {step.script for step in steps}:
        raise UsageError(f"no step runs {', '.join(sorted(unknown))}; --list names them all")
    return [step for step in steps if not wanted or step.script in wanted]


def require_place(page: Path) -> None:
    """Raises UsageError unless the table can be put into a Markdown file: asked before the hours, not after them."""
    try:
        put_between(page.read_text("utf-8"), END)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot put the table into {page}: {getattr(error, 'strerror', None) or error}") from None


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Shorter arguments, and no long steps.")
    parser.add_argument("--only", nargs="+", default=[], metavar="SCRIPT")
    parser.add_argument("--list", action="store_true", help="Name the steps and run none.")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="The document; a dated one in build/bench.")
    parser.add_argument("--into", type=Path, metavar="FILE", help="Also put the table between the marks in this page.")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Make models there, or take those of a run before.")
    parser.add_argument("--go-on", action="store_true", help="Take what steps had found in the folder of --keep.")
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
        steps = chosen(steps, given.only)
        if given.into:
            if given.only:
                raise UsageError("--into takes the table of a whole run; leave out --only, or copy the rows by hand")
            require_place(given.into)
        if given.go_on and not given.keep:
            raise UsageError("--go-on needs the folder of the run before; name it with --keep")
        target = given.output or RESULTS / f"{datetime.now():%Y-%m-%d-%H%M}.md"
        with tempfile.TemporaryDirectory() as folder:
            place = given.keep or Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            shop = Workshop(place, lambda line: say(f"    {line}"))
            report, cut = run_all(steps, scripts, shop, target, given.quick, given.go_on)
            block = report.block()
        print(block)
        if given.into and not cut:
            write_text(given.into, put_between(given.into.read_text("utf-8"), block))
    except EdgeTLError as error:
        say(f"error: {error}")
        return error.exit_code
    say(f"wrote {target}{f' and {given.into}' if given.into and not cut else ''}")
    if cut:
        return 130
    return int(any(outcome.state == "failed" for outcome in report.outcomes))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    sys.exit(main())
