"""Photos that a model has seen: recognised by file and by picture, in bounded room, and new photos never taken for them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from conftest import write_photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scenes import files_of, scene

from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.survey import photo_files
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.images.fingerprint import (
    MARGIN,
    SeenFiles,
    SeenPhotos,
    distances,
    file_key,
    fingerprint_photos,
    picture_hash,
    safe_radius,
    turned,
)
from edge_tl_runtime.modelfile.training_images import MAX_BYTES, MAX_RADIUS, PhotoHashes, TrainingImages


def folder_of(root: Path, seeds: range, quality: int = 0) -> Path:
    root.mkdir(parents=True)
    for seed in seeds:
        buffer = io.BytesIO()
        image = Image.fromarray(scene(seed)[..., ::-1])
        image.save(buffer, *(("JPEG",) if quality else ("PNG",)), **({"quality": quality} if quality else {}))
        (root / f"{seed}.{'jpg' if quality else 'png'}").write_bytes(buffer.getvalue())
    return root


def listed(
    trained_on: Path, validation: Path | None = None, earlier: tuple[TrainingImages, ...] = ()
) -> TrainingImages:
    return fingerprint_photos(SeenFiles(files_of(trained_on), files_of(validation)), earlier)


def role(seen: SeenPhotos, path: Path) -> str:
    return seen.role_of_file(path.read_bytes()) or seen.role_of_picture(read_photo(path))


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("taught") / "photos", range(10))


# The hash of a picture


def test_a_hash_is_the_signs_of_the_lowest_frequencies():
    small = scene(0, 32, 32)
    grey = np.asarray(Image.fromarray(small[..., ::-1]).convert("L"), np.float64)
    waves = scipy.fft.dctn(grey, norm="ortho")
    order = sorted(((u, v) for u in range(32) for v in range(32)), key=lambda p: (sum(p), abs(p[0] - p[1]), p))[1:97]
    values = np.array([waves[u, v] for u, v in order])
    bits = np.unpackbits(picture_hash(small)).astype(bool)
    clear = np.abs(values) > 3  # luminance is rounded otherwise by Pillow
    assert clear.sum() > 60
    np.testing.assert_array_equal(bits[clear], values[clear] > 0)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_or_mirrored_picture_has_one_of_the_eight_hashes(turns, mirrored):
    frame = scene(1, 256, 256)
    other = np.ascontiguousarray(np.rot90(frame[:, ::-1] if mirrored else frame, turns))
    assert distances(turned(picture_hash(other)), picture_hash(frame)[None]).min() <= 1
    assert len(np.unique(turned(picture_hash(frame)), axis=0)) == 8


@given(
    st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=5), st.lists(st.binary(min_size=12, max_size=12))
)
def test_distances_count_the_bits_that_differ(left, right):
    ours, theirs = (np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 12) for rows in (left, right))
    expected = [[bin(int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).count("1") for b in right] for a in left]
    np.testing.assert_array_equal(distances(ours, theirs), np.array(expected, int).reshape(len(left), len(right)))


def test_distances_are_the_same_without_numpys_own_count(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (50, 12), np.uint8)
    expected = distances(rows[:7], rows)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    np.testing.assert_array_equal(distances(rows[:7], rows), expected)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((100, 100, 3), np.uint8),
        np.full((480, 640, 3), 200, np.uint8),
        np.full((1, 1, 3), 7, np.uint8),
        np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], 480, 0).repeat(3, 2),
    ],
    ids=["black", "grey", "one pixel", "a ramp"],
)
def test_what_shows_nothing_has_no_hash(frame):
    assert picture_hash(frame) is None


COPIES = {
    "JPEG of quality 85": lambda image: (image, "JPEG", {"quality": 85}),
    "JPEG of quality 30": lambda image: (image, "JPEG", {"quality": 30}),
    "WebP": lambda image: (image, "WEBP", {"quality": 70}),
    "PNG": lambda image: (image, "PNG", {"compress_level": 1}),
    "512 pixels wide": lambda image: (image.resize((512, round(512 * image.height / image.width))), "JPEG", {}),
    "160 pixels wide": lambda image: (image.resize((160, round(160 * image.height / image.width))), "JPEG", {}),
    "squashed to 224 x 224": lambda image: (image.resize((224, 224)), "JPEG", {}),
    "mirrored": lambda image: (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG", {}),
    "lying on its side": lambda image: (image.transpose(Image.Transpose.ROTATE_90), "JPEG", {}),
    "grey": lambda image: (image.convert("L"), "JPEG", {}),
}


def save_copy(source: Path, target: Path, kind: str) -> Path:
    with Image.open(source) as image:
        copy, form, options = COPIES[kind](image.convert("RGB"))
        copy.save(target, form, **options)
    return target


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_recognised(kind, taught, tmp_path):
    seen = SeenPhotos(listed(taught))
    for path in photo_files(taught):
        copy = save_copy(path, tmp_path / "copy", kind)
        assert seen.role_of_file(copy.read_bytes()) is None
        assert role(seen, copy) == "trained_on", path


def test_a_new_photo_is_not_taken_for_one_that_taught(taught):
    seen = SeenPhotos(listed(taught))
    assert {seen.role_of_picture(scene(seed)) for seed in range(100, 160)} == {"new"}


@pytest.mark.slow
def test_copies_of_real_photos_are_recognised_and_new_photos_are_not(data_dir, tmp_path):
    train, val = (photo_files(data_dir / "hymenoptera" / part) for part in ("train", "val"))
    others = [path for name in ("cats-dogs", "pets37", "imagenet-1k-sample") for path in photo_files(data_dir / name)][
        ::4
    ]
    seen = SeenPhotos(listed(data_dir / "hymenoptera" / "train"))
    assert seen.images.radius == MAX_RADIUS
    for number, path in enumerate(train[::3]):
        kind = list(COPIES)[number % len(COPIES)]
        assert role(seen, save_copy(path, tmp_path / "copy", kind)) == "trained_on", (path, kind)
    roles = list(map_in_order(lambda path: role(seen, path), [*val, *others]))
    assert roles == ["new"] * len(roles)


# The list


def test_files_are_known_under_any_name_and_pictures_by_the_nearest(tmp_path):
    train, val = folder_of(tmp_path / "t", range(20)), folder_of(tmp_path / "v", range(20, 30))
    images = listed(train, val)
    assert (images.trained_on.n, images.validation.n) == (20, 10)
    assert (images.share_of_files, images.share_of_pictures) == (1, 1)
    seen = SeenPhotos(TrainingImages.from_dict(json.loads(json.dumps(images.to_dict())), "training_images"))
    for folder, expected in ((train, "trained_on"), (val, "validation")):
        for path in photo_files(folder):
            data = path.read_bytes()
            assert seen.role_of_file(data) == expected
            assert seen.role_of_file(data + b"\0") is None
            assert seen.role_of_picture(read_photo(path)) == expected
    key = int.from_bytes(hashlib.sha256(data).digest()[:4], "little")
    assert file_key(data) == key
    assert key in images.validation.file_keys()


def test_a_photo_that_taught_and_chose_was_trained_on(tmp_path):
    train = folder_of(tmp_path / "t", range(5))
    images = listed(train, train)
    assert (images.trained_on.n, images.validation.n) == (5, 0)


def test_the_list_depends_on_nothing_but_the_photos(tmp_path):
    first = listed(folder_of(tmp_path / "t", range(8)), folder_of(tmp_path / "v", range(8, 12)))
    (tmp_path / "t").rename(tmp_path / "u")
    files = SeenFiles(dict(reversed(files_of(tmp_path / "u").items())), files_of(tmp_path / "v"))
    assert fingerprint_photos(files) == first


def test_files_that_cannot_be_read_any_more_are_known_by_their_bytes(tmp_path):
    files = files_of(folder_of(tmp_path / "t", range(3)))
    gone = {**files, hashlib.sha256(b"gone").hexdigest(): tmp_path / "gone.jpg"}
    images = fingerprint_photos(SeenFiles(gone, {}))
    assert SeenPhotos(images).role_of_file(b"gone") == "trained_on"
    assert (images.trained_on.n, images.trained_on.n_pictures) == (4, 3)


def test_blank_photos_are_known_as_files_alone(tmp_path):
    blank = write_photo(tmp_path / "a.png", np.full((50, 50, 3), 90, np.uint8))
    seen = SeenPhotos(listed(tmp_path))
    assert role(seen, blank) == "trained_on"
    assert role(seen, write_photo(tmp_path / "b.png", np.full((60, 60, 3), 90, np.uint8))) == "new"


def test_what_earlier_weights_had_seen_counts_too(tmp_path):
    first = listed(folder_of(tmp_path / "t", range(6)), folder_of(tmp_path / "v", range(6, 9)))
    second = listed(folder_of(tmp_path / "u", range(20, 24)), tmp_path / "t", (first,))
    assert (second.trained_on.n, second.validation.n) == (10, 3)
    assert (second.share_of_files, second.share_of_pictures) == (1, 1)
    seen = SeenPhotos(second)
    assert {role(seen, path) for path in photo_files(tmp_path / "t")} == {"trained_on"}
    assert {role(seen, path) for path in photo_files(tmp_path / "v")} == {"validation"}


@pytest.mark.parametrize("count", [8192, 8193, 20_000, 60_000])
def test_any_number_of_photos_takes_bounded_room_and_what_is_missing_is_said(count, tmp_path):
    digests = {hashlib.sha256(str(i).encode()).hexdigest(): tmp_path / "nowhere" for i in range(count)}
    # Pictures as if an earlier run had listed them, since these files do not exist.
    pictures = np.unique(np.random.default_rng(0).integers(0, 256, (8200, 12), np.uint8), axis=0)
    none = PhotoHashes(n=0, n_pictures=0, files="", pictures="")
    had = PhotoHashes(n=8200, n_pictures=8200, files="", pictures=base64.b64encode(pictures.tobytes()).decode())
    earlier = TrainingImages(method="sha256-32+dct-96", radius=12, trained_on=had, validation=none)
    images = fingerprint_photos(SeenFiles(digests, {}), [earlier])
    size = 4 * len(images.trained_on.file_keys()) + 12 * len(images.trained_on.picture_hashes())
    assert size <= MAX_BYTES
    assert len(json.dumps(images.to_dict())) < 1.35 * MAX_BYTES + 500
    known = set(images.trained_on.file_keys().tolist())
    share = np.mean([file_key(str(i).encode()) in known for i in range(0, count, 7)])
    assert images.share_of_files == pytest.approx(share * count / (count + 8200), abs=0.02)
    assert (f"{100 * images.share_of_files:.0f} % of them are listed" in images.describe()) == (
        images.share_of_files < 1
    )


def test_new_frames_of_a_camera_that_does_not_move_are_not_taken_for_old_ones(tmp_path):
    room, rng = scene(5, 240, 320), np.random.default_rng(0)

    def frame(number: int) -> np.ndarray:
        shown = np.clip(room + rng.normal(0, 3, room.shape), 0, 255).astype(np.uint8)
        x, y = rng.integers(0, 280), rng.integers(0, 200)
        shown[y : y + 40, x : x + 40] = scene(1000 + number, 40, 40)
        return shown

    for number in range(150):
        write_photo(tmp_path / f"{number:03d}.png", frame(number))
    images = listed(tmp_path)
    assert images.radius < MAX_RADIUS
    seen = SeenPhotos(images)
    assert sum(seen.role_of_picture(frame(1000 + number)) != "new" for number in range(100)) <= 5
    assert all(role(seen, path) == "trained_on" for path in photo_files(tmp_path))


def test_a_radius_is_the_largest_within_which_few_photos_are_alike():
    rows = np.random.default_rng(0).integers(0, 256, (300, 12), np.uint8)
    assert safe_radius(rows) == MAX_RADIUS
    for bits in range(8):
        near = rows.copy()
        near[:, 0] ^= np.uint8((1 << bits) - 1)
        pairs = np.concatenate([rows, near]) if bits else np.concatenate([rows, rows])
        assert safe_radius(pairs) == max(bits - 1 - MARGIN, -1)
    few = np.concatenate([rows, rows[:2]])
    assert safe_radius(few) == MAX_RADIUS
    assert safe_radius(rows[:0]) == MAX_RADIUS


def test_photos_too_much_alike_are_known_as_files_alone(tmp_path):
    for number in range(20):
        frame = scene(3)
        frame[0, 0] = number
        write_photo(tmp_path / f"{number}.png", frame)
    images = listed(tmp_path)
    assert (images.radius, images.share_of_files, images.share_of_pictures) == (-1, 1, 0)
    assert "only identical files are recognised" in images.describe()
    seen = SeenPhotos(images)
    assert all(role(seen, path) == "trained_on" for path in photo_files(tmp_path))
    assert seen.role_of_picture(scene(3)) == "new"


def test_a_method_of_another_release_is_kept_and_not_guessed_at(tmp_path):
    images = listed(folder_of(tmp_path / "t", range(3)))
    other = dataclasses.replace(images, method="sha512-64")
    assert SeenPhotos.of(other) is None
    assert SeenPhotos.of(None) is None
    assert "upgrade" in other.describe()


@given(st.binary(max_size=60), st.integers(-2, 60), st.integers(0, 20))
def test_any_list_is_read_or_refused(content, radius, count):
    text = base64.b64encode(content).decode()
    part = {"n": count, "n_pictures": count, "files": text, "pictures": text}
    document = {"method": "sha256-32+dct-96", "radius": radius, "trained_on": part, "validation": part}
    try:
        seen = SeenPhotos(TrainingImages.from_dict(document, "training_images"))
    except BadModelError:
        return
    assert seen.role_of_picture(scene(0)) in ("new", "trained_on", "validation")
    assert seen.images.to_dict() == document
