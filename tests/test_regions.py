"""Crops and regions in the commands, in Python and in what a run leaves: on a frame whose left is red and whose right is blue."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import edge_tl, lines
from conftest import COLORS, write_photo

import edge_tl as et
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.asked_geometry import AskedGeometry
from edge_tl_runtime.images.geometry import Box
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.decision import Decider
from edge_tl_runtime.pipeline.smoothing import Ema
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.run.status import Health
from edge_tl_runtime.sinks import Snapshots
from edge_tl_runtime.sinks.draw.overlay import Overlay
from edge_tl_runtime.sinks.draw.view import DIMMED, dim_outside, draw_answers
from edge_tl_runtime.sinks.pictures import Record
from edge_tl_runtime.sinks.text import CSV_COLUMNS, REGION_COLUMN
from edge_tl_runtime.sources import open_source

LEFT, RIGHT, *_ = COLORS
TWO = {"door": (0, 0, 0.5, 1), "gate": "0.5,0,0.5,1"}


def halves(rows: int = 48, columns: int = 64) -> np.ndarray:
    frame = np.empty((rows, columns, 3), np.uint8)
    frame[:, : columns // 2], frame[:, columns // 2 :] = COLORS[LEFT], COLORS[RIGHT]
    return frame


@pytest.fixture
def photo(tmp_path):
    return write_photo(tmp_path / "halves.png", halves())


@pytest.fixture
def film(tmp_path):
    """Ten frames; in the last five the sides are exchanged."""
    path = tmp_path / "halves.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(10):
        writer.write(halves() if number < 5 else halves()[:, ::-1])
    writer.release()
    return path


def test_predict_looks_where_it_is_told_and_says_so(color_model, photo):
    for crop, label in (("0,0,32,48", LEFT), ("0.5,0,0.5,1", RIGHT)):
        found = edge_tl("predict", color_model, photo, "--crop", crop, "--json")
        assert found.returncode == 0, found.stderr
        assert lines(found.stdout)[0]["label"] == label
        kind = "pixels" if crop.startswith("0,0,32") else "fractions of the frame"
        assert f"--crop {crop} ({kind}); the file was trained without a crop" in found.stderr
    turned = edge_tl("predict", color_model, photo, "--crop", "0,0,0.5,1", "--flip", "horizontal", "--json")
    assert lines(turned.stdout)[0]["label"] == RIGHT
    assert (
        lines(edge_tl("predict", color_model, photo, "--rotate", 180, "--crop", "0,0,0.5,1", "--json").stdout)[0][
            "label"
        ]
        == RIGHT
    )


def test_python_looks_in_the_same_way(color_model, photo):
    with et.load(color_model) as model:
        assert model.predict(photo, crop="0,0,0.5,1").label == LEFT
        assert model.predict(photo, crop=(32, 0, 32, 48)).label == RIGHT
        assert model.predict(photo, crop=(0, 0, 0.5, 1), rotate=180).label == RIGHT
        assert model.spec.geometry is None
        found = list(model.stream(photo, crop=TWO))
        assert [(result.region, result.label) for result in found] == [("door", LEFT), ("gate", RIGHT)]
        assert [result.region for result in model.stream(photo, crop=(0, 0, 0.5, 1))] == [""]
        with pytest.raises(UsageError, match="predict takes one crop without a name; run takes several"):
            model.predict(photo, crop=TWO)
        with pytest.raises(UsageError, match="predict has no option 'zoom'; there are crop, rotate, flip, fit"):
            model.predict(photo, zoom=2)
        with pytest.raises(UsageError, match="leaves the frame, which is 64x48 px"):
            model.predict(photo, crop="40,0,40,40")


def test_evaluate_looks_by_the_same_rule(color_model, tmp_path):
    root = tmp_path / "photos"
    for number, label in enumerate((LEFT, RIGHT) * 2):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, :32], frame[:, 32:] = COLORS[label], COLORS[RIGHT if label == LEFT else LEFT]
        write_photo(_made(root / label) / f"{number}.png", frame)
    write_photo(_made(root / [*COLORS][2]) / "x.png", np.full((48, 64, 3), COLORS[[*COLORS][2]], np.uint8))
    for crop, right in (("0,0,0.5,1", 1.0), ("32,0,32,48", 0.2)):
        found = edge_tl("evaluate", color_model, root, "--split", "all", "--crop", crop, "--json")
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["top1"] == right
        assert f"--crop {crop}" in found.stderr
    with et.load(color_model) as model:
        assert model.evaluate(root, split="all", crop="0.5,0,0.5,1").top1 == pytest.approx(0.2)
    write_photo(root / LEFT / "other.png", np.zeros((40, 64, 3), np.uint8))
    refused = edge_tl("evaluate", color_model, root, "--split", "all", "--crop", "0,0,32,40")
    assert refused.returncode == 2
    assert "is in pixels, and the photos differ in size" in refused.stderr


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_run_gives_each_region_a_line_a_row_a_key_and_a_state(color_model, film, tmp_path):
    status, rows = tmp_path / "status.json", tmp_path / "rows.csv"
    crops = ("--crop", "door=0,0,32,48", "--crop", "gate=0.5,0,0.5,1")
    found = edge_tl("run", color_model, "--source", film, "--headless", *crops, "--status", status, "--csv", rows)
    assert found.returncode == 0, found.stderr
    told = [line.split("frame ")[1].rsplit(" ", 2)[0] for line in found.stdout.splitlines()]
    assert told == [f"0: door: {LEFT}", f"0: gate: {RIGHT}", f"5: door: {RIGHT}", f"5: gate: {LEFT}"]
    assert "door: the model sees 32x32 px from x 0, y 8 of 64x48" in found.stderr
    assert "gate: the model sees" in found.stderr
    assert "10 frames" in found.stderr
    document = json.loads(status.read_text())
    assert document["frames"] == 10
    assert {name: part["label"] for name, part in document["regions"].items()} == {"door": RIGHT, "gate": LEFT}
    table = list(csv.DictReader(rows.read_text().splitlines()))
    assert list(table[0]) == [*CSV_COLUMNS, REGION_COLUMN]
    assert [(row["frame"], row["region"], row["label"]) for row in table[:2]] == [
        ("0", "door", LEFT),
        ("0", "gate", RIGHT),
    ]
    assert len(table) == 20
    some = edge_tl("run", color_model, "--source", film, "--headless", "--json", *crops, "--max-frames", 3)
    assert [(line["frame"], line["region"]) for line in lines(some.stdout)] == [
        (frame, region) for frame in range(3) for region in ("door", "gate")
    ]


def test_without_options_a_run_writes_what_it_wrote_before(color_model, film):
    found = lines(edge_tl("run", color_model, "--source", film, "--headless", "--json").stdout)
    assert len(found) == 10
    assert "region" not in found[0]


def test_a_batch_of_regions_gives_what_frames_one_by_one_give(color_model, film):
    crops = ("--crop", "door=0,0,0.5,1", "--crop", "gate=0.5,0,0.5,1")
    answers = []
    for batch in (1, 3, 16):
        found = edge_tl("run", color_model, "--source", film, "--headless", "--json", *crops, "--batch", batch)
        answers.append([(line["frame"], line["region"], line["top"]) for line in lines(found.stdout)])
        assert (f"--batch {batch} with 2 regions: {2 * batch} pictures per call" in found.stderr) == (batch > 1)
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("crop", "reason"),
    [("40,0,40,48", "leaves the frame, which is 64x48 px"), ("0,0,0.1,1", "is 6x48 px of a frame of 64x48")],
)
def test_a_crop_that_a_film_has_no_room_for_is_refused(color_model, film, crop, reason):
    found = edge_tl("run", color_model, "--source", film, "--headless", "--crop", crop)
    assert found.returncode == 2
    assert reason in found.stderr
    assert not found.stdout


def test_photos_of_other_sizes_are_refused_before_one_is_classified(color_model, photo):
    write_photo(photo.parent / "other.png", halves(60, 80))
    found = edge_tl("run", color_model, "--source", photo.parent, "--headless", "--crop", "0,0,32,48")
    assert found.returncode == 2
    assert "give fractions, such as 0,0,0.5,1" in found.stderr
    assert not found.stdout


class Lent:
    """A live camera of a few frames."""

    live, sequence, name, stopping = True, True, "camera", False

    def __init__(self, frames):
        from edge_tl_runtime.sources.base import Counts, FrameRecord

        self.records = [FrameRecord(frame, "camera", i, i / 10, i / 10) for i, frame in enumerate(frames)]
        self.counts = Counts()

    def __iter__(self):
        return iter(self.records)

    def intact(self, record):
        return True


def test_pixels_stay_the_same_part_when_a_camera_comes_back_in_another_size(color_model):
    said = []
    source = Lent([halves(), halves(96, 128), halves()])
    stream = Stream(source, Classifier(color_model), asked=AskedGeometry.parse("32,0,32,48"), say=said.append)
    assert [result.label for result in stream] == [RIGHT] * 3
    assert said == [
        "the model sees 32x32 px from x 32, y 8 of 64x48",
        "the model sees 64x64 px from x 64, y 16 of 128x96",
        "the model sees 32x32 px from x 32, y 8 of 64x48",
    ]
    with pytest.raises(UsageError, match="leaves the frame, which is 64x48 px"):
        next(iter(Stream(source, Classifier(color_model), asked=AskedGeometry.parse("60,0,60,40"))))


def test_each_region_is_smoothed_by_itself(color_model):
    source = Lent([halves()] * 3 + [halves()[:, ::-1]])

    def decider(classifier):
        return Decider(classifier.spec, smoother=Ema(10.0))

    stream = Stream(source, Classifier(color_model), decider=decider, asked=AskedGeometry.parse(TWO))
    found = [(result.region, result.label, result.prediction.label) for result in stream]
    assert found[-2:] == [("door", LEFT, RIGHT), ("gate", RIGHT, LEFT)]


def test_status_counts_a_frame_once(color_model):
    stream = Stream(Lent([halves()] * 4), Classifier(color_model), asked=AskedGeometry.parse(TWO))
    health = Health(stream)
    for result in stream:
        health.saw(result)
    assert health.frames == 4
    assert [*health.regions] == ["door", "gate"]


def results(model, frame, **asked):
    return list(Stream(Lent([frame]), Classifier(model), asked=AskedGeometry.parse(**asked)))


def test_what_the_model_does_not_see_is_dimmed_and_what_it_sees_is_not(color_model):
    frame = np.full((72, 128, 3), 200, np.uint8)
    (result,) = results(color_model, frame)
    (region,) = result.seen
    assert region.box == Box(*(round(v) for v in _centre(color_model)))
    drawn = dim_outside(frame.copy(), [region.box])
    box = region.box
    inside = np.zeros((72, 128), bool)
    inside[box.y + 2 : box.y + box.height - 2, box.x + 2 : box.x + box.width - 2] = True
    assert (drawn[inside] == 200).all()
    around = np.ones((72, 128), bool)
    around[max(0, box.y - 3) : box.y + box.height + 3, box.x - 3 : box.x + box.width + 3] = False
    assert around.any()
    assert (drawn[around] == round(200 * DIMMED)).all()
    np.testing.assert_array_equal(dim_outside(frame.copy(), [Box(0, 0, 128, 72)]), frame)


def _centre(model):
    rule = Classifier(model).spec.resize
    scale = min(72 / rule.height, 128 / rule.width) * rule.crop_pct
    height, width = round(scale * rule.height), round(scale * rule.width)
    return (128 - width) // 2, (72 - height) // 2, width, height


@pytest.mark.parametrize(("crop", "label"), [((), LEFT), ((0.5, 0, 0.5, 1), RIGHT)])
def test_pictures_are_shown_as_they_were_turned(color_model, crop, label):
    (result,) = results(color_model, halves(48, 96)[:, ::-1], crop=crop or None, rotate=180)
    np.testing.assert_array_equal(result.picture(), halves(48, 96))
    assert result.size == (96, 48)
    if crop:
        assert result.label == label


def test_regions_are_dimmed_together_and_named_in_their_boxes(color_model):
    frame = np.full((300, 600, 3), 100, np.uint8)
    found = results(color_model, frame, crop={"door": (0, 0, 0.3, 0.5), "gate": (0.6, 0.4, 0.4, 0.6)})
    overlay = Overlay([*COLORS])
    drawn = draw_answers(overlay, frame.copy(), found[-1].decision, found[-1].seen, "", True)
    first, second = (region.box for region in found[-1].seen)
    assert (drawn[290:, :300] == 40).all()
    for box in (first, second):
        part = box.of(drawn)
        assert (part[part.shape[0] // 2 :][3:-3, 3:-3] == 100).all()
        assert part[: part.shape[0] // 4].max() > 200  # white letters
    plain = draw_answers(overlay, frame.copy(), found[-1].decision, found[-1].seen, "", False)
    assert (plain[290:, :300] == 100).all()


def test_recordings_take_a_frame_once_and_snapshots_a_change_of_each_region(color_model, tmp_path):
    found = results(color_model, halves(), crop=TWO)
    record = Record(tmp_path / "out.avi", Overlay([*COLORS]))
    assert [record.wants(result) for result in found] == [False, True]
    snapshots = Snapshots(tmp_path / "shots", clock=lambda: 0.0)
    for result in found:
        assert snapshots.wants(result)
        assert not snapshots.wants(result)
        snapshots.write(result.with_frame(halves()))
    names = sorted(path.name for path in (tmp_path / "shots").iterdir())
    assert names == [f"19700101T000000.000Z-door-{LEFT}.jpg", f"19700101T000000.000Z-gate-{RIGHT}.jpg"]
    shot = cv2.imread(str(tmp_path / "shots" / names[0]))
    assert np.abs(shot[24, 56].astype(int) - np.array(COLORS[RIGHT]) * DIMMED).max() < 12
    assert np.abs(shot[24, 16].astype(int) - np.array(COLORS[LEFT])).max() < 12


def test_a_photo_reaches_the_network_in_the_same_bytes_in_every_stage(color_model, photo):
    from edge_tl_runtime.evaluation.evaluate import PixelReader
    from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
    from edge_tl_runtime.images.decode import read_photo

    classifier = Classifier(color_model)
    rule = AskedGeometry.parse("8,0,40,40", rotate=90, flip="both", fit="letterbox")
    (region,) = rule.regions(classifier.spec.resize, 48, 64)
    (batch,) = PixelReader(LabelledPhotos(photo.parent, ("a", "b"), (photo,), (0,)), region.rule)
    classifier.frame_logits(read_photo(photo), region.rule)
    np.testing.assert_array_equal(classifier._input[0], batch.pixels[0])
    stream = Stream(open_source(str(photo)), Classifier(color_model), asked=rule)
    list(stream)
    np.testing.assert_array_equal(stream.classifier._input[0], batch.pixels[0])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run trained with a crop in pixels on photos of one size, its file, and the photos."""
    from edge_tl.cli.console import silent
    from edge_tl.deploy import deploy
    from edge_tl.training.settings import TrainSettings
    from edge_tl.training.train import train
    from edge_tl_export import ExportSettings

    root = tmp_path_factory.mktemp("cropped")
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for level, name in ((60, "dark"), (190, "light")):
            for number in range(count):
                frame = rng.integers(0, 256, (90, 160, 3), np.uint8)
                frame[:, 40:130] = np.clip(rng.normal(level, 20, (90, 90, 3)), 0, 255)
                write_photo(_made(root / "photos" / part / name) / f"{number}.png", frame)
    said: list[str] = []
    settings = TrainSettings(
        arch="mobilenet_v3_small", weights="none", recipe="probe", size=64, device="cpu", crop="40,0,90,90", rotate=180
    )
    train(root / "photos", root / "run", settings, silent, said.append)
    deploy(str(root / "run"), None, ExportSettings(), None, "pretrained", silent, said.append)
    return root, said


@pytest.mark.slow
def test_a_crop_of_training_is_in_the_run_in_the_file_and_in_every_answer(trained):
    from edge_tl.training.finetune.crops import Canvases
    from edge_tl.training.run_folder import load_run
    from edge_tl_runtime.evaluation.evaluate import PixelReader
    from edge_tl_runtime.images.crop import crop_resize
    from edge_tl_runtime.images.datasets.dataset import load_labelled
    from edge_tl_runtime.images.decode import read_photo

    root, said = trained
    assert "--crop 40,0,90,90 (pixels), --rotate 180" in said
    run, classifier = load_run(root / "run"), Classifier(root / "run" / "model.onnx")
    rule = classifier.spec.resize
    assert run.spec.resize == run.network.backbone.resize == rule
    assert classifier.spec.needs == ("geometry",)
    assert rule.crop_pct == 1.0
    assert rule.geometry.crop == (40 / 160, 0, 90 / 160, 1)
    photos = load_labelled(root / "photos", classifier.spec.labels, "val")
    frame = read_photo(photos.paths[0])
    by_hand = np.ascontiguousarray(frame[::-1, ::-1][:, 40:130])  # 180 degrees, then the crop
    expected = crop_resize(by_hand, type(rule)(height=64, width=64, crop_pct=1.0, resample=rule.resample))
    for pixels in (
        next(iter(PixelReader(photos, run.network.backbone.resize))).pixels[0],
        (classifier.frame_logits(frame), classifier._input[0])[1],
        _streamed(root / "run" / "model.onnx", photos.paths[0]),
    ):
        np.testing.assert_array_equal(pixels, expected)
    canvases = Canvases(photos.paths[:1], rule, __import__("torch").device("cpu"))
    (canvas,) = canvases.batch(np.array([0])).numpy()
    whole = cv2.resize(by_hand, canvas.shape[:2], interpolation=cv2.INTER_LINEAR)[..., ::-1]
    np.testing.assert_array_equal(canvas, whole)
    assert canvases.aspects[0] == 1.0


def _streamed(model: Path, photo: Path) -> np.ndarray:
    stream = Stream(open_source(str(photo)), Classifier(model))
    list(stream)
    return stream.classifier._input[0]


@pytest.mark.slow
def test_an_option_on_site_replaces_the_crop_of_training_and_says_so(trained):
    root, _ = trained
    model, photo = root / "run" / "model.onnx", root / "photos" / "val" / "dark" / "0.png"
    found = edge_tl("predict", model, photo, "--crop", "0,0,1,1", "--json")
    assert found.returncode == 0, found.stderr
    assert "the file was trained with crop 0.25,0,0.5625,1, rotated by 180 degrees" in found.stderr
    shown = edge_tl("inspect", model).stdout
    assert "looks at" in shown
    assert "crop 0.25,0,0.5625,1, rotated by 180 degrees" in shown


CATS = 24


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::edge_tl.api.model.EdgeTLWarning")  # a busy machine is no matter here
def test_a_cat_at_the_edge_of_a_wide_frame_is_found_by_a_crop(data_dir, tmp_path):
    """A real film of real photos: by default the cat is outside; drawn around, it is seen. The model is trained on a few."""
    import itertools

    from edge_tl_runtime.images.decode import read_photo

    sets = data_dir / "cats-dogs"
    for part, label in itertools.product(("train", "val"), ("cat", "dog")):
        for path in itertools.islice(sorted((sets / part / label).glob("*.jpg")), CATS):
            (_made(tmp_path / "set" / part / label) / path.name).symlink_to(path)
    model = et.train(tmp_path / "set", tmp_path / "run", recipe="probe", device="cpu").export()
    background = cv2.resize(read_photo(next(data_dir.glob("imagenet-1k-sample/*patio*"))), (1280, 720))
    cat = read_photo(sorted((sets / "val" / "cat").glob("*.jpg"))[3])
    scale = 290 / max(cat.shape[:2])
    cat = cv2.resize(cat, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    film = tmp_path / "edge.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (1280, 720))
    for number in range(12):
        frame = background.copy()
        frame[220 + number :, 2:][: cat.shape[0], : cat.shape[1]] = cat
        writer.write(frame)
    writer.release()
    missed = [result.label for result in model.stream(film)]
    found = [result.label for result in model.stream(film, crop="0,200,300,300")]
    assert "cat" not in missed
    assert found == ["cat"] * 12
    both = list(model.stream(film, crop={"edge": (0, 200, 300, 300), "middle": (320, 40, 640, 640)}))
    assert {result.label for result in both if result.region == "edge"} == {"cat"}
    assert "cat" not in {result.label for result in both if result.region == "middle"}
