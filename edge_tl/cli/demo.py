"""`edge-tl demo`: every step on photographs that are always there, without a network."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edge_tl.cli.console import percent, progress, say, table
from edge_tl_runtime.core.text import shell_command


@click.command(short_help="Run everything on built-in photos, without the network.")
@click.option(
    "-o",
    "--output",
    "folder",
    default="edge-tl-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for photos, run and video.",
)
def command(folder: Path) -> None:
    """Train on photos of brick, grass and gravel, export to INT8, and classify photos and a video with the file."""
    from edge_tl.demo import run_demo

    started = time.perf_counter()
    result = run_demo(folder, progress, say)
    fp32, int8 = (file.row for file in result.export.files)
    table(
        "",
        ["step", "result", "seconds"],
        [
            ["photos", f"{sum(result.training.photos)} patches of 3 surfaces", f"{result.seconds['photos']:.1f}"],
            [
                "train",
                f"val top-1 {percent(result.training.evaluation.top1)} of {result.training.evaluation.n}",
                f"{result.seconds['train']:.1f}",
            ],
            [
                "export",
                f"INT8 {fp32.bytes / int8.bytes:.1f}x smaller, {int8.speedup:.2f}x as fast, top-1 {percent(int8.top1 or 0)}",
                f"{result.seconds['export']:.1f}",
            ],
            [
                "run on a video",
                f"{result.frames} frames, {percent(result.frames_right / result.frames)} right, "
                f"{result.frame_ms:.1f} ms a frame",
                f"{result.seconds['video']:.1f}",
            ],
        ],
    )
    click.echo(f"everything is in {folder}; {time.perf_counter() - started:.0f} s in all. Try next:\n")
    model = result.export.files[-1].path
    for words, why in (
        (("run", model, "--source", result.video), "the video that was classified just now; --source 0 is your camera"),
        (("train", "YOUR_PHOTOS", "-o", "runs/mine"), "a folder with a sub-folder of photos for each class"),
        (("inspect", model), "what the file says of itself"),
    ):
        click.echo(f"  {shell_command(*words)}   # {why}")
