"""`edge-tl adopt FILE.onnx -o OUT.onnx --labels LABELS`."""

from __future__ import annotations

from pathlib import Path

import click


def _three(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter("three numbers with commas between, as 0.485,0.456,0.406") from None
    return first, second, third


@click.command(short_help="Make a classifier exported elsewhere into a file of ours.")
@click.argument("original", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--labels", required=True, help="A text file with one label a line, or imagenet.")
@click.option("--mean", default="0.485,0.456,0.406", show_default=True, callback=_three, help="Of pixels in 0..1.")
@click.option("--std", default="0.229,0.224,0.225", show_default=True, callback=_three, help="Of pixels in 0..1.")
@click.option(
    "--crop-pct",
    default=0.875,
    show_default=True,
    type=click.FloatRange(0.05, 1),
    help="Share of a photo's side that it sees.",
)
@click.option("--bgr", is_flag=True, help="It was trained on BGR pictures.")
def command(
    original: Path,
    output: Path,
    labels: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    crop_pct: float,
    bgr: bool,
) -> None:
    """Put pixels, crop, labels and a self-test into ORIGINAL, an ONNX classifier, so that every command here can take it."""
    from edge_tl.models.weights import imagenet_labels
    from edge_tl_export.adopt import adopt, checked_labels
    from edge_tl_runtime.errors import shell_command
    from edge_tl_runtime.files import write_bytes
    from edge_tl_runtime.onnx_file import read_model
    from edge_tl_runtime.preprocess import DEFAULT_RESAMPLE
    from edge_tl_runtime.spec import ModelSpec, Normalization, ResizeRule

    listed = imagenet_labels() if labels == "imagenet" else _lines(Path(labels))
    spec = ModelSpec(
        labels=checked_labels(listed, labels),
        # The size is the graph's own.
        resize=ResizeRule(
            height=1, width=1, crop_pct=crop_pct, resample=DEFAULT_RESAMPLE, color_order="BGR" if bgr else "RGB"
        ),
        normalization=Normalization(mean=mean, std=std),
        arch=original.stem,
    )
    adopted = adopt(read_model(original), spec, str(original))
    write_bytes(output, adopted.model)
    for note in adopted.recognised:
        click.echo(f"recognised: {note}")
    click.echo(f"wrote {output}; next: {shell_command('evaluate', output, 'PHOTOS')}")


def _lines(path: Path) -> tuple[str, ...]:
    from edge_tl_runtime.errors import UsageError
    from edge_tl_runtime.files import read_regular

    try:
        text = read_regular(path, 1 << 20).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read the labels in {path}: {error}; give a UTF-8 text file with one label a line"
        ) from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())
