"""Packs: the same bytes each time, read back to the last pixel, refused when anything is wrong, with the figures of `attack`."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import hostile
import numpy as np
import pytest
from conftest import write_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stripes import QUICK, evaluate
from stripes import make_pack as make
from stripes import packed as packed
from stripes import pair as pair
from stripes import photos as photos

from edge_tl.adversarial.packing import write_pack
from edge_tl.cli import invoke as run
from edge_tl.cli.console import silent
from edge_tl_runtime.bench.pack.archive import MANIFEST, write_archive
from edge_tl_runtime.bench.pack.pack import Pack
from edge_tl_runtime.bench.parts.accuracy import AccuracyPart, Agreement
from edge_tl_runtime.bench.parts.corruptions import Corruptions
from edge_tl_runtime.bench.parts.live_square import LiveSquare
from edge_tl_runtime.bench.parts.part import Bench
from edge_tl_runtime.bench.parts.stored import StoredAttackPart
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.core.errors import BadPackError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.robustness.corrupted_accuracy import corrupted_accuracy
from edge_tl_runtime.robustness.corruptions import named_corruptions

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def document(pair, photos, tmp_path_factory) -> dict:
    return evaluate(pair, photos, tmp_path_factory.mktemp("attack"))


class Memory:
    """A ledger that forgets nothing while the test runs."""

    def __init__(self) -> None:
        self.held: dict[str, dict] = {}
        self.asked: list[str] = []

    def get(self, name):
        self.asked.append(name)
        return self.held.get(name)

    def put(self, name, document):
        self.held[name] = json.loads(json.dumps(document))


def bench(model: Path, pack: Path | None, ledger: Memory | None = None, stop=lambda: False, **changes) -> Bench:
    return Bench(
        model=model,
        classifier=Classifier(model),
        settings=BenchSettings(**changes),
        pack=None if pack is None else Pack.open(pack),
        photos=None,
        ledger=ledger or Memory(),
        stop=stop,
        progress=lambda done: None,
    )


# Writing


def test_the_same_inputs_give_the_same_bytes(packed, pair, photos, tmp_path):
    make(pair, photos, tmp_path / "again.pack")
    assert (tmp_path / "again.pack").read_bytes() == packed.read_bytes()


def test_a_pack_that_the_time_limit_cut_short_says_so_and_goes_on(packed, pair, photos, tmp_path):
    target = tmp_path / "bench.pack"
    assert not make(pair, photos, target, time_limit=1e-6)["complete"]
    assert Pack.open(target).workstation["robust_accuracy"]["8"]["bound"]
    assert make(pair, photos, target)["complete"]
    assert target.read_bytes() == packed.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["bench.pack"]


def test_a_pack_that_cannot_be_made_is_refused_before_anything_is_attacked(pair, photos, tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        make(pair, photos, tmp_path)
    with pytest.raises(UsageError, match="any wrong one"):
        write_pack(pair, photos, tmp_path / "x.pack", replace(QUICK, target="cold 0"), silent)


def test_photos_are_packed_to_the_last_pixel(packed, pair, photos):
    pack, spec = Pack.open(packed), Classifier(pair).spec
    pack.require_fits(spec)
    assert len(pack.photos) == 40
    for place, photo in enumerate(pack.photos):
        frame = read_photo(photos / photo.name)
        assert np.array_equal(pack.pixels(place), crop_resize(frame, spec.resize))
        assert np.array_equal(pack.frame(place), frame)
        assert Path(photo.name).parts[0] == spec.labels[photo.target]


def test_stored_pictures_are_within_their_epsilon_and_fool_the_file(packed, pair):
    pack, classifier = Pack.open(packed), Classifier(pair)
    count = 0
    for attack in pack.stored:
        for picture in attack.pictures:
            adversarial = pack.adversarial(picture)
            change = np.abs(adversarial.astype(int) - pack.pixels(picture.photo)).max()
            assert 0 < change <= picture.epsilon
            assert classifier.logits(adversarial[None]).argmax() != pack.photos[picture.photo].target
            count += 1
    assert count > 40


def test_scores_of_both_files_are_expected(packed, pair):
    pack = Pack.open(packed)
    for path in (pair, pair.with_name("model.onnx")):
        expected = pack.expected_of(sha256(path.read_bytes()))
        pixels = np.stack([pack.pixels(place) for place in range(len(pack.photos))])
        np.testing.assert_allclose(pack.logits(expected), Classifier(path).logits(pixels), atol=1e-5)
    assert pack.expected_of("0" * 64) is None


def test_pack_says_what_it_wrote(pair, photos, tmp_path, capsys):
    target = tmp_path / "แพ็ก 1.pack"
    words = ["pack", str(pair), str(photos), "-o", str(target), "--preset", "quick", "--photos", "8", "--split", "all"]
    assert run([*words, "--epsilons", "8", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["sha256"] == Pack.open(target).sha256
    assert summary["photos"] == 8


# Judging


def test_stored_figures_are_those_of_the_attack(packed, pair, document):
    found = StoredAttackPart().run(bench(pair, packed, photos=0))
    assert found["complete"]
    for epsilon, rate in found["accuracy"].items():
        expected = document["clean_accuracy"] if epsilon == "0" else document["robust_accuracy"][epsilon]
        assert (rate["count"], rate["n"]) == (expected["count"], expected["n"])
    lines = document["models_under_test"]["model"]["attacks"]
    for ours, theirs in zip(found["attacks"], lines, strict=True):
        assert (ours["attack"], ours["route"]) == (theirs["name"], theirs["route"])
        assert ours["fooled"] == {epsilon: rate["count"] for epsilon, rate in theirs["success"].items()}
        assert ours["still"]["count"] == ours["still"]["n"]


def test_accuracy_and_agreement_on_the_machine_that_packed(packed, pair, document):
    subject = bench(pair, packed, photos=0)
    assert AccuracyPart().run(subject)["top1"]["count"] == document["clean_accuracy"]["count"]
    agreement = Agreement().run(subject)
    assert agreement["same_label"]["rate"] == 1
    assert agreement["largest_difference"] < 1e-4
    assert not agreement["differing"]


def test_a_file_that_differs_is_seen_to_differ(packed, pair, monkeypatch):
    subject = bench(pair, packed, photos=0)
    wanted = subject.pack.logits(subject.pack.expected[0])
    moved = wanted.copy()
    moved[3] = np.roll(moved[3], 1)
    monkeypatch.setattr(Pack, "logits", lambda self, expected: moved)
    agreement = Agreement().run(subject)
    assert agreement["same_label"]["count"] == 39
    assert agreement["differing"][0]["photo"] == subject.pack.photos[3].name
    assert agreement["largest_difference"] == pytest.approx(np.abs(moved[3] - wanted[3]).max(), abs=1e-4)


def test_agreement_is_of_the_packed_files_alone(packed, color_model):
    assert "another file" in Agreement().absent(bench(color_model, packed))
    assert "needs a pack" in StoredAttackPart().absent(bench(color_model, None))
    assert "labelled photos" in AccuracyPart().absent(bench(color_model, None))


def test_corruptions_are_those_of_evaluate(packed, pair, photos):
    names, severities = named_corruptions("camera"), (1, 3)
    found = Corruptions().run(bench(pair, packed, photos=0, severities="1,3"))
    spec = Classifier(pair).spec
    labelled = load_labelled(photos, spec.labels, "all")
    names_packed = {photo.name for photo in Pack.open(packed).photos}
    kept = [place for place in range(len(labelled)) if labelled.name(place) in names_packed]
    wanted = corrupted_accuracy(
        Classifier(pair).logits, labelled.subset(kept, "all"), spec.resize, names, severities
    ).to_dict()
    assert found["clean"] == wanted["clean"]
    assert {row["name"]: row["by_severity"] for row in found["rows"]} == {
        row["name"]: row["by_severity"] for row in wanted["rows"]
    }


def test_square_is_resumed_piece_by_piece(packed, pair):
    changes = {"photos": 0, "epsilons": "8,32", "queries": 60}
    whole = LiveSquare().run(bench(pair, packed, **changes))
    assert whole["accuracy"]["0"]["count"] > whole["accuracy"]["32"]["count"]
    ledger, calls = Memory(), []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 150

    cut = LiveSquare().run(bench(pair, packed, ledger, stop, **changes))
    assert not cut["complete"]
    # Whole pieces alone count, and the time is looked at within one: 60 questions at two radii take most of 150 looks.
    assert cut["accuracy"]["0"]["n"] in (16, 32)
    at_once = LiveSquare().run(bench(pair, packed, Memory(), lambda: True, **changes))
    assert at_once["accuracy"]["32"]["rate"] is None
    stored = dict(ledger.held)
    assert LiveSquare().run(bench(pair, packed, ledger, **changes)) == whole
    assert stored.items() <= ledger.held.items()


# Refusing


def rewritten(packed: Path, target: Path, change) -> Path:
    """The pack with its members changed by `change`, and a list and an identity that fit them."""
    with zipfile.ZipFile(packed) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != MANIFEST}
        manifest = json.loads(archive.read(MANIFEST))
    change(manifest, members)
    write_archive(target, manifest, members.items())
    return target


def test_a_pack_of_format_1_is_read_as_that_of_now(packed, tmp_path):
    def as_before(manifest, members):
        manifest["format"] = 1
        (own, *others) = manifest["expected"]
        assert (own["role"], {item["role"] for item in others}) == ("model", {"sibling"})
        for number, item in enumerate(others):
            name = f"expected/twin-{number}.npy"
            members[name] = members.pop(item["logits"])
            item |= {"role": "twin", "logits": name}
        said = manifest["workstation"]
        said["twin"] = said.pop("fp32_counterpart")
        said["alarms"] = [{"name": "a", "text": "b", "explanation": "c", "subject": "twin"}]

    old, new = Pack.open(rewritten(packed, tmp_path / "old.pack", as_before)), Pack.open(packed)
    assert [(item.role, item.sha256) for item in old.expected] == [(item.role, item.sha256) for item in new.expected]
    assert old.workstation["fp32_counterpart"] == new.workstation["fp32_counterpart"]
    assert old.workstation["alarms"][0]["role"] == "fp32_counterpart"
    assert np.array_equal(old.logits(old.expected[-1]), new.logits(new.expected[-1]))
    read_all(old.path)


def read_all(path: Path) -> None:
    pack = Pack.open(path)
    for place in range(len(pack.photos)):
        pack.pixels(place)
        pack.frame(place)
    for expected in pack.expected:
        pack.logits(expected)
    for attack in pack.stored:
        for picture in attack.pictures:
            pack.adversarial(picture)


def refused(path: Path) -> str:
    return hostile.refused(BadPackError, lambda: read_all(path), 20)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", ["one"]),
        ("labels", "warm"),
        ("resize", {"height": 10**9, "width": 32}),
        ("photos", []),
        ("photos", [{"name": "a", "target": 99, "pixels": "photos/00000.png", "frame": "frames/00000.png"}]),
        ("photos", [{"name": "a", "target": 0, "pixels": "photos/none.png", "frame": "frames/00000.png"}]),
        ("photos", [{"name": "a", "target": 0, "pixels": "../../etc/passwd", "frame": "frames/00000.png"}]),
        ("epsilons", [4, 2]),
        ("epsilons", [-1]),
        ("stored", [{"attack": "x", "route": "", "kind": "", "control": 1, "pictures": []}]),
        ("stored", [{"attack": "x", "route": "", "kind": "", "control": False, "pictures": [[0, 1]]}]),
        ("expected", [{"role": "model"}]),
        ("workstation", []),
        ("members", None),
    ],
)
def test_a_list_of_contents_that_makes_no_sense_is_refused(packed, tmp_path, key, value):
    def change(manifest, members):
        manifest[key] = value
        if key == "photos" and value:
            manifest["stored"] = []

    path = rewritten(packed, tmp_path / "x.pack", change)
    if key == "members":
        # `write_archive` fills it in, so this is the pack as it was.
        assert Pack.open(path).sha256 == Pack.open(packed).sha256
    else:
        assert "damaged" in refused(path)


def test_other_releases_and_other_zips_are_told_apart(packed, tmp_path):
    newer = rewritten(packed, tmp_path / "newer.pack", lambda manifest, members: manifest.update(format=3))
    assert "is newer than this edge-tl: its format is 3" in refused(newer)
    foreign = rewritten(packed, tmp_path / "foreign.pack", lambda manifest, members: manifest.pop("kind"))
    assert "no pack of edge-tl" in refused(foreign)
    plain = tmp_path / "plain.zip"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "which no pack has" in refused(plain)
    assert "no pack at" in refused(tmp_path / "none.pack")
    (tmp_path / "text.pack").write_text("not a zip")
    assert "no pack" in refused(tmp_path / "text.pack")


@pytest.mark.parametrize(
    "name", ["../escape.png", "/etc/cron.png", "a\\b.png", "photos/../../x.png", "C:x.png", "x" * 5000]
)
def test_a_name_that_leads_elsewhere_is_refused(packed, tmp_path, name):
    path = rewritten(packed, tmp_path / "x.pack", lambda manifest, members: members.update({name: b"x"}))
    assert "which no pack has" in refused(path)
    assert not (tmp_path.parent / "escape.png").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(packed, tmp_path):
    path = tmp_path / "bomb.pack"
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.comment = archive.comment
        bomb.writestr(MANIFEST, archive.read(MANIFEST))
        with bomb.open("photos/00000.png", "w", force_zip64=True) as member:
            for _ in range(160):
                member.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    assert "more than the" in refused(path)


def test_a_bomb_that_lies_about_its_size_is_not_unpacked(packed, tmp_path):
    path = tmp_path / "liar.pack"
    with zipfile.ZipFile(packed) as archive:
        comment, manifest = archive.comment, archive.read(MANIFEST)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as liar:
        liar.comment = comment
        liar.writestr(MANIFEST, manifest)
        with liar.open("photos/00000.png", "w") as member:
            for _ in range(100):
                member.write(bytes(2**20))
    data = bytearray(path.read_bytes())
    # The declared size of the second entry of the list at the end, and of its own header.
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[entry + 24 : entry + 28] = struct.pack("<I", 100)
    path.write_bytes(data)
    assert "only in" in refused(path) or "longer" in refused(path)


def test_a_member_twice_or_too_many_is_refused(packed, tmp_path):
    path = tmp_path / "twice.pack"
    path.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("photos/00000.png", b"x")
    assert "twice" in refused(path)
    path.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("photos/99999.png", b"x")
    assert "only in the" in refused(path)


def with_list(packed: Path, target: Path, text: bytes) -> Path:
    """A pack whose list of contents is other bytes, with an identity that fits them."""
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(target, "w") as written:
        written.comment = sha256(text).encode()
        written.writestr(MANIFEST, text)
        for name in archive.namelist()[1:]:
            written.writestr(name, archive.read(name))
    return target


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 60 + b"1" + b"}" * 60,
        b'{"format": 1e999}',
        b'{"format": ' + b"9" * 5000 + b"}",
        b'{"kind": 1, "kind": 2}',
        b'{"kind": "\\ud800"}',
        b"\xff\xfe{}",
        b"[]",
        b"",
    ],
    ids=["brackets", "deep", "infinite", "digits", "key twice", "half a pair", "no UTF-8", "no object", "empty"],
)
def test_a_list_that_is_no_sound_json_is_refused(packed, tmp_path, text):
    assert MANIFEST in refused(with_list(packed, tmp_path / "x.pack", text))


@pytest.mark.parametrize(
    ("offset", "value"), [(8, b"\x01\x00"), (10, b"\x0c\x00"), (38, struct.pack("<I", 0o120777 << 16))]
)
def test_encrypted_members_links_and_other_compressions_are_refused(packed, tmp_path, offset, value):
    # Offsets of flags, method and attributes in an entry of the list at the end (APPNOTE 4.3.12).
    data = bytearray(packed.read_bytes())
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[entry + offset : entry + offset + len(value)] = value
    (tmp_path / "x.pack").write_bytes(data)
    assert "encrypted, a link, or compressed" in refused(tmp_path / "x.pack")


def test_members_that_share_their_bytes_are_refused(packed, tmp_path):
    # Every entry of the list points at the largest member (Fifield 2019).
    data = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        largest = max(archive.infolist()[1:], key=lambda info: info.compress_size)
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    while entry >= 0:
        data[entry + 20 : entry + 28] = struct.pack("<II", largest.compress_size, largest.file_size)
        data[entry + 42 : entry + 46] = struct.pack("<I", largest.header_offset)
        entry = data.find(b"PK\x01\x02", entry + 4)
    (tmp_path / "x.pack").write_bytes(data)
    assert refused(tmp_path / "x.pack")


def test_any_difference_of_two_pictures_leads_back(packed, tmp_path):
    """Of pictures farther apart than a signed byte reaches."""
    pack = Pack.open(packed)
    picture = next(picture for attack in pack.stored for picture in attack.pictures)
    wanted = 255 - pack.pixels(picture.photo)
    stored = write_photo(tmp_path / "d.png", (wanted - pack.pixels(picture.photo) + np.uint8(128))[..., ::-1])
    path = rewritten(
        packed, tmp_path / "x.pack", lambda manifest, members: members.update({picture.picture: stored.read_bytes()})
    )
    assert np.array_equal(Pack.open(path).adversarial(picture), wanted)


def test_a_picture_of_another_size_is_refused(packed, tmp_path):
    huge = write_photo(tmp_path / "huge.png", np.zeros((3000, 3000, 3), np.uint8)).read_bytes()
    path = rewritten(packed, tmp_path / "x.pack", lambda manifest, members: members.update({"photos/00000.png": huge}))
    assert "3000x3000" in refused(path)


def test_scores_of_another_shape_are_refused(packed, tmp_path):
    path = rewritten(
        packed, tmp_path / "x.pack", lambda manifest, members: members.update({"expected/model.npy": b"\x93NUMPY"})
    )
    assert "expected/model.npy" in refused(path)


def test_a_model_of_other_classes_is_refused(packed, color_spec):
    with pytest.raises(BadPackError, match="make a pack of this model"):
        Pack.open(packed).require_fits(color_spec)


def test_a_pack_that_was_cut_short_is_refused(packed, tmp_path):
    data = packed.read_bytes()
    for share in (0.1, 0.5, 0.99):
        path = tmp_path / "short.pack"
        path.write_bytes(data[: int(share * len(data))])
        assert "cut short" in refused(path)


def test_a_benchmark_reads_all_of_a_pack_before_it_begins(packed, pair, tmp_path, capsys):
    data = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        # In a frame, which the accuracy does not look at.
        data[archive.getinfo("frames/00007.png").header_offset + 100] ^= 1
    path = tmp_path / "flipped.pack"
    path.write_bytes(data)
    words = ["bench", str(pair), str(path), "--parts", "accuracy", "-o", str(tmp_path / "r.json")]
    assert run(words) == 1
    error = capsys.readouterr().err
    assert "frames/00007.png is" in error
    assert error.count("\n") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["flipped.pack"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), tail=st.booleans())
def test_a_flipped_bit_is_refused_or_changes_nothing(packed, tmp_path, place, bit, tail):
    data = bytearray(packed.read_bytes())
    last = min(len(data), 4000)
    position = len(data) - last + int(place * last) if tail else int(place * len(data))
    data[position] ^= 1 << bit
    path = tmp_path / "flipped.pack"
    path.write_bytes(data)
    intact = Pack.open(packed)
    try:
        pack = Pack.open(path)
        pixels = [pack.pixels(i) for i in range(len(pack.photos))]
        frames = [pack.frame(i) for i in range(len(pack.photos))]
        stored = [pack.adversarial(picture) for attack in pack.stored for picture in attack.pictures]
        logits = [pack.logits(expected) for expected in pack.expected]
    except BadPackError:
        return
    assert pack.sha256 == intact.sha256
    assert all(np.array_equal(x, intact.pixels(i)) for i, x in enumerate(pixels))
    assert all(np.array_equal(x, intact.frame(i)) for i, x in enumerate(frames))
    pictures = [picture for attack in intact.stored for picture in attack.pictures]
    assert all(np.array_equal(x, intact.adversarial(p)) for x, p in zip(stored, pictures, strict=True))
    assert all(np.array_equal(x, intact.logits(e)) for x, e in zip(logits, intact.expected, strict=True))
