"""The schemas: documents of the real commands pass, damaged ones do not, and no key goes undescribed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import torch
from contracts import json_values, make, names
from flawed_photos import flawed as flawed
from hostile import replaced
from hypothesis import given
from hypothesis import strategies as st
from schema_checks import assert_fits, valid, validator
from stripes import packed as packed
from stripes import pair as pair
from stripes import whole as whole
from tiny_network import SPEC
from tiny_network import network as network
from tiny_network import photos as photos

from edge_tl.audit.check import check
from edge_tl.cli import invoke as run
from edge_tl.cli.console import silent
from edge_tl.schemas import DOCUMENTS, schema
from edge_tl_export import ExportSettings, export_model
from edge_tl_runtime.bench.pack.archive import Archive
from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.modelfile import documents as contract
from edge_tl_runtime.modelfile import sections, spec, training_images
from edge_tl_runtime.modelfile.onnx import read_spec
from edge_tl_runtime.modelfile.spec import Accuracy, ModelSpec, Normalization, ResizeRule, Scores, SelfTest
from edge_tl_runtime.modelfile.training_images import PhotoHashes, TrainingImages

KINDS = sorted(DOCUMENTS)
FREE = {("training",), ("export",), ("parts", "agreement", "workstation")}
"""Places of documents that the program promises nothing about but that they are objects."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def quick(color_model, color_photos, tmp_path, capsys) -> dict[str, list[Any]]:
    """Documents of the commands that take no time, by kind."""
    made: dict[str, list[Any]] = {"contract": [json.loads(read_spec(color_model).to_json())]}
    for name, arguments in {
        "evaluate": [color_model, color_photos, "--split", "all", "--corruptions", "camera", "--severities", "2"],
        "inspect": [color_model],
        "predict": [color_model, color_photos],
        "run": [
            *(color_model, "--source", color_photos, "--headless"),
            *("--log", tmp_path / "log.jsonl", "--status", tmp_path / "status.json"),
        ],
    }.items():
        capsys.readouterr()
        assert run([name, *map(str, arguments), "--json"]) == 0
        made[name] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    made["run"] += [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    made["status"] = [json.loads((tmp_path / "status.json").read_text("utf-8"))]
    assert all(made.values())
    return made


@pytest.fixture(scope="module")
def made(pair, packed, stripes, whole, network, photos, flawed, tmp_path_factory) -> dict[str, list[Any]]:
    """Documents of the others, as the commands write them."""
    folder = tmp_path_factory.mktemp("made")
    small = ("--corruptions", "mjpg", "--severities", "3", "--queries", "5", "--epsilons", "8")
    short = ("--quick", "--seconds", "0.1", "--sustained", "0.1", "--calls", "5", "--batches", "1", "--photos", "8")
    result = folder / "bench.json"
    assert run(["bench", str(pair), str(packed), "-o", str(result), "--frame-size", "64x48", *short, *small]) == 0
    calibration, validation = photos
    settings = ExportSettings(quantization="int8", max_drop=100, layers=True)
    report = export_model(network, SPEC, folder, settings, calibration=calibration, validation=validation, stage=silent)
    checked = check(flawed, "efficientnet_lite0", "pretrained", silent, torch.device("cpu")).to_dict()
    models = [pair, pair.with_name("model.onnx"), report.files[-1].path]
    return {
        "contract": [json.loads(read_spec(path).to_json()) for path in models],
        "check": [json.loads(json.dumps(checked))],
        "robustness": [json.loads((whole[1] / "robustness.json").read_text("utf-8"))],
        "pack": [Archive(packed).manifest],
        "pack-summary": [json.loads(json.dumps(stripes.summary))],
        "bench": [json.loads(result.read_text("utf-8"))],
        "export": [json.loads(json.dumps(report.to_dict()))],
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_schema_is_one_and_leads_nowhere_else(name):
    made = schema(name)
    jsonschema.Draft202012Validator.check_schema(made)
    for reference in references(made):
        page, _, place = reference.partition("#/$defs/")
        assert not page
        assert place in made["$defs"], reference


def references(schema: Any) -> Iterator[str]:
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if key == "$ref":
            yield value
        elif isinstance(value, (dict, list)):
            yield from references(value)


def test_what_the_quick_commands_write_passes_and_nothing_damaged_does(quick):
    check_all(quick)


@pytest.mark.slow
def test_what_the_other_commands_write_passes_and_nothing_damaged_does(made):
    check_all(made)


def check_all(found: dict[str, list[Any]]) -> None:
    """Each document passes, also where nothing undescribed may be in it; with a key missing or of another type it does not."""
    for name, documents in found.items():
        assert_fits(name, *documents)
        document = documents[0]
        for key in schema(name)["required"]:
            assert not valid(name, {k: v for k, v in document.items() if k != key}), (name, key)
        places = [place for place in leaves(document) if not any(place[: len(free)] == free for free in FREE)]
        assert len(places) >= 5
        for place in places:
            assert not valid(name, replaced(document, place, {"no": "such thing"})), (name, place)


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of everything that is no container; of lists, and of objects by epsilon or severity, the first item alone."""
    if isinstance(value, (dict, list)):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        alike = all(str(key)[0].isdigit() for key, _ in items)
        for key, item in items[:1] if alike else items:
            yield from leaves(item, (*place, key))
    else:
        yield place


@pytest.mark.slow
def test_a_schema_takes_the_other_kinds_for_strangers(quick, made):
    found = quick | made
    for name in found:
        others = [other for other in found if other != name and valid(name, found[other][0])]
        # A line of `run` holds all that one of `predict` does, and `inspect` all of a contract.
        assert others == {"predict": ["run"], "contract": ["inspect"]}.get(name, []), name


@given(
    labels=st.lists(names.filter(lambda t: t.strip() != ""), min_size=2, max_size=6, unique=True),
    settings=st.dictionaries(st.text(), json_values, max_size=4),
    temperature=st.floats(1e-6, 1e6),
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
    evaluated=st.none()
    | st.builds(Accuracy, top1=st.floats(0, 1), ci95=st.just((0.0, 1.0)), n=st.integers(0, 99), data=names),
    tested=st.booleans(),
)
def test_every_contract_that_can_be_made_passes(labels, settings, temperature, precision, evaluated, tested):
    test = SelfTest(thumbnail="", side=2, top1=0, logits=(1.0,) * len(labels), tolerance=0.1) if tested else None
    spec = make(
        tuple(labels),
        training=settings,
        scores=Scores(temperature=temperature),
        precision=precision,
        validation=evaluated,
        self_test=test,
    )
    assert [e.message for e in validator("contract").iter_errors(json.loads(spec.to_json()))] == []


TESTED = SelfTest(thumbnail="", side=2, top1=0, logits=(1.0, 0.0), tolerance=0.1)
WHOLE = make(validation=Accuracy(top1=0.5, ci95=(0.0, 1.0), n=4, data="val"), self_test=TESTED).to_dict()
PLACES = [(key,) for key in WHOLE] + [
    (key, inner)
    for key, value in WHOLE.items()
    if isinstance(value, dict) and key not in ("training", "export")
    for inner in value
]


@given(place=st.sampled_from(PLACES), value=json_values)
def test_what_the_schema_of_contracts_forbids_the_program_refuses(place, value):
    document = replaced(WHOLE, place, value)
    # What an inner object leaves out has a default to the program; the schema, which describes what is written, wants it all.
    lacking = isinstance(value, dict) and isinstance(WHOLE[place[0]], dict) and len(place) == 1
    if not valid("contract", document) and not lacking:
        with pytest.raises(BadModelError):
            ModelSpec.from_dict(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("labels",), ["only"]),
        (("labels",), ["twice", "twice"]),
        (("labels",), ["ant", "  "]),
        (("labels",), ["ant", "line\nbreak"]),
        (("labels",), ["ant", "x" * 1001]),
        (("version",), 4),
        (("needs",), "labels"),
        (("training_images",), {"method": "m"}),
        (("geometry",), {"rotate": 45}),
        (("features",), {"output": "f", "size": 0}),
        (("history",), [{}]),
        (("precision",), "int4"),
        (("resize", "crop_pct"), 0),
        (("resize", "crop_pct"), 1.1),
        (("resize", "height"), 4097),
        (("resize", "height"), "8"),
        (("resize", "color_order"), "YUV"),
        (("normalization", "std"), [1, 1, 0]),
        (("normalization", "mean"), [1, 1]),
        (("scores", "temperature"), 0),
        (("scores", "activation"), "sigmoid"),
        (("validation", "top1"), 1.01),
        (("validation", "n"), -1),
        (("self_test", "side"), 513),
        (("self_test", "tolerance"), -0.1),
        (("training",), []),
    ],
    ids=str,
)
def test_both_refuse_a_contract_that_is_none(place, value):
    document = replaced(WHOLE, place, value)
    assert valid("contract", WHOLE)
    assert not valid("contract", document)
    with pytest.raises(BadModelError):
        ModelSpec.from_dict(document)


SECTIONS = {
    ResizeRule: contract.ResizeDocument,
    Normalization: contract.NormalizationDocument,
    Scores: contract.ScoresDocument,
    Accuracy: contract.AccuracyDocument,
    SelfTest: contract.SelfTestDocument,
    PhotoHashes: contract.PhotoHashesDocument,
    TrainingImages: contract.TrainingImagesDocument,
    sections.Geometry: contract.GeometryDocument,
    sections.FeatureOutput: contract.FeaturesDocument,
    sections.Array: contract.ArrayDocument,
    sections.OODScore: contract.OODScoreDocument,
    sections.LabelSets: contract.LabelSetsDocument,
    sections.ClassStatistics: contract.ClassStatisticsDocument,
    sections.Background: contract.BackgroundDocument,
    sections.Teaching: contract.TeachingDocument,
    ModelSpec: contract.ContractDocument,
}


def test_each_section_of_the_contract_has_its_class_with_the_same_keys():
    there = [value for module in (sections, spec, training_images) for value in vars(module).values()]
    public = {kind for kind in there if isinstance(kind, type) and issubclass(kind, sections.Section)}
    public = {kind for kind in public if not kind.__name__.startswith("_")}
    assert {*SECTIONS} == (public - {sections.Section}) | {ModelSpec}
    for kind, document in SECTIONS.items():
        fields = {item.name for item in dataclasses.fields(kind)} - {"extra"}
        if kind is ModelSpec:
            fields.add("geometry")  # a part of the rule that the document holds beside it
        assert set(document.__annotations__) == fields, kind.__name__
