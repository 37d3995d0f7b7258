"""Settings: what a person types, what a library call takes, and what a run folder keeps are one and the same."""

from __future__ import annotations

import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from documented import understood

import edge_tl_export
from edge_tl.adversarial.settings import AttackSettings, DreamSettings, PackSettings
from edge_tl.api.settings import settings_of
from edge_tl.audit.settings import CheckSettings
from edge_tl.cli import COMMANDS, GROUPS, cli
from edge_tl.cli import invoke as run
from edge_tl.cli.collect import OF_A_RUN
from edge_tl.cli.examples import EXAMPLES
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.settings_file import by_dotted_name, by_name, choose, written
from edge_tl_export.settings import ExportSettings
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import assembled, called
from edge_tl_runtime.evaluation.settings import EvaluateSettings
from edge_tl_runtime.inference.settings import OpenSettings, PredictSettings
from edge_tl_runtime.machine.settings import TuneSettings
from edge_tl_runtime.run.collect_settings import CollectSettings
from edge_tl_runtime.run.plan import RunPlan

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def command_of(*words: str) -> tuple[click.Command, list[str]]:
    """The command that words begin with, and the rest of them."""
    command, rest = cli.get_command(None, words[0]), list(words[1:])
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    assert command is not None
    return command, rest


def defaults(*words: str) -> dict[str, object]:
    """What a command passes on where nothing else is asked for."""
    command, rest = command_of(*words)
    with command.make_context(words[0], rest) as context:
        return context.params


ASKED: dict[tuple[str, ...], tuple[type, ...]] = {
    ("train", "photos"): (TrainSettings, FinetuneSettings),
    ("run", "m.onnx"): (RunPlan, OpenSettings),
    ("predict", "m.onnx", "a.jpg"): (PredictSettings, OpenSettings),
    ("evaluate", "m.onnx", "photos"): (EvaluateSettings,),
    ("export", "run"): (ExportSettings,),
    ("tune", "m.onnx"): (TuneSettings,),
    ("bench", "m.onnx"): (BenchSettings, OpenSettings),
    ("attack", "m.onnx", "photos"): (AttackSettings,),
    ("pack", "m.onnx", "photos"): (PackSettings,),
    ("dream", "m.onnx", "--class", "a"): (DreamSettings,),
    ("data", "check", "photos"): (CheckSettings,),
    ("collect",): (CollectSettings,),
}
"""Settings of each command, beside the least that can be typed."""
BORROWED = {
    "evaluate": {"weights": TrainSettings},
    "export": {"weights": TrainSettings},
    "bench": {"split": EvaluateSettings},
    "collect": dict.fromkeys(OF_A_RUN, RunPlan),
}
"""Options made from one field of another class."""
OF_THEIR_OWN = {"dream": {"folder"}}
"""Options with a default that no settings class has: where files go."""


@pytest.mark.parametrize("words", ASKED, ids=lambda words: words[0])
def test_a_command_that_is_asked_for_nothing_has_the_defaults_of_its_settings_and_no_others(words):
    """Sizes were multiplied twice: logs of the command line rotated at 11 TB in place of 10 MB."""
    given = defaults(*words)
    known = {}
    for settings in ASKED[words]:
        if settings is RunPlan:
            assert assembled(RunPlan, {**given, "model": Path("m.onnx")}) == RunPlan(model=Path("m.onnx"))
        else:
            assert assembled(settings, given) == settings()
        known |= {called(item): item.default for item in dataclasses.fields(settings) if item.metadata}
    for name, settings in BORROWED.get(words[0], {}).items():
        known[name] = next(item.default for item in dataclasses.fields(settings) if item.name == name)
    shown = {name: value for name, value in given.items() if name in known}
    assert shown == {name: known[name] for name in shown}
    required = {
        param.name for param in command_of(*words)[0].params if isinstance(param, click.Argument) or param.required
    }
    others = set(given) - set(known) - required - OF_THEIR_OWN.get(words[0], set())
    assert {name: given[name] for name in others if given[name] not in (None, False, ())} == {}


def test_every_command_with_a_default_of_its_own_is_known():
    """A command that gains a default goes into the table above, or is one that has no library call with settings."""
    known = {words[:-1] if words[0] == "data" else words[:1] for words in ASKED}
    without = {("demo",), ("adopt",)}
    for name in COMMANDS:
        command = cli.get_command(None, name)
        parts = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for part, one in parts:
            valued = [p.name for p in one.params if isinstance(p, click.Option) and p.to_info_dict()["default"]]
            if valued:
                assert tuple(filter(None, (name, part))) in known | without, (name, part, valued)


@pytest.mark.parametrize("name", ["run", "export", "attack", "train"])
def test_long_helps_are_in_sections_and_none_of_their_options_is_lost(name, capsys):
    command = cli.get_command(None, name)
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    names = [param.name for param in command.params]
    places = [shown.index(f"\n{title}:\n") for title in command.sections.values()]
    assert set(command.sections) <= set(names)
    assert places == sorted(places)
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert len(re.findall(rf"^  (?:-\w, )?{re.escape(param.opts[-1])}[ /\n]", shown, re.MULTILINE)) == 1, (
                param.name
            )


@pytest.mark.parametrize(("words", "points"), [((), 0.5), (("--max-drop", "0.5"), 0.5), (("--max-drop", "2"), 2.0)])
def test_the_allowed_drop_is_in_points_until_it_is_computed_with(words, points):
    made = assembled(ExportSettings, defaults("export", "run", *words))
    assert (made.max_drop, made.allowed_drop) == (points, points / 100)
    assert settings_of(ExportSettings, {"max_drop": points}, "export") == made


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"max_drop": 100.5}, "max_drop is 100.5; it must be between 0 and 100"),
        ({"max_drop": float("nan")}, "between 0 and 100"),
        ({"max_drop": "0.5"}, "it takes a number"),
        ({"max_drop": None}, "it takes a number"),
        ({"calibration_photos": 0}, "calibration_photos is 0; it must be at least 1"),
        ({"calibration_size": 5}, "did you mean calibration_photos?"),
        ({"quantization": "int8"}, "did you mean quantize?"),
        ({"quantize": "int4"}, "there are int8, fp16"),
        ({"qat_epochs": -1}, "must be at least 0"),
        ({"layers": 1}, "it takes true or false"),
        ({"target": "pi"}, "there are auto"),
        ({"search": "all"}, "there are first, full"),
    ],
)
def test_a_wrong_setting_of_an_export_is_one_line_before_torch_is_loaded(value, said):
    with pytest.raises(UsageError) as caught:
        settings_of(ExportSettings, value, "export")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_help_loads_neither_torch_nor_onnxruntime(name):
    code = f"import sys; from edge_tl.cli import invoke as run; run([{name!r}, '--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = done.stderr.split()
    assert "click" in loaded
    assert not {"torch", "onnxruntime"} & set(loaded)


def test_public_names_of_export_are_where_the_table_says():
    assert sorted(edge_tl_export._PLACES) == sorted(edge_tl_export.__all__)
    for name, place in edge_tl_export._PLACES.items():
        assert getattr(edge_tl_export, name) is getattr(importlib.import_module(place), name)


VALUES = {
    "finetune.mixup": (0.2, "0.2"),
    "finetune.mirror": (False, "no"),
    "finetune.freeze_bn": (False, "off"),
    "finetune.optimizer": ("sgd", "sgd"),
    "finetune.learning_rate": (1e-5, "1e-5"),
    "finetune.patience": (3, "3"),
    "weights": ('a "b" \\ c\n\x7f ผึ้ง', 'a "b" \\ c\n\x7f ผึ้ง'),
    "seed": (7, "7"),
}


def test_a_written_file_gives_the_same_settings_to_another_reader_and_back(tmp_path):
    settings = by_dotted_name({name: value for name, (value, _) in VALUES.items()})
    file = tmp_path / "mine.toml"
    file.write_text(written(settings), "utf-8")
    content = tomllib.loads(file.read_text("utf-8"))
    assert content["finetune"]["mixup"] == 0.2
    assert content["weights"] == settings.weights
    assert len(content) + len(content["finetune"]) == len(by_name()) + 1
    assert choose(file, (), {}).settings == settings
    (tmp_path / "settings.toml").write_text(written(settings), "utf-8")
    assert choose(tmp_path, (), {}).settings == settings


def test_set_gives_what_the_field_holds():
    chosen = choose(None, [f"{name}={text}" for name, (_, text) in VALUES.items()], {})
    assert chosen.given == {name: value for name, (value, _) in VALUES.items()}
    assert chosen.settings == by_dotted_name(chosen.given)
    assert choose(None, ["finetune.layer-decay=1"], {}).given == {"finetune.layer_decay": 1.0}
    assert choose(None, ["finetune.mirror=auto"], {}).settings == TrainSettings()


def test_an_option_wins_over_set_and_set_over_the_file_and_each_is_said(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = 1\n[finetune]\nmixup = 0.1\nepochs = 2\n")
    chosen = choose(file, ["finetune.mixup=0.3", "finetune.epochs=3"], {"finetune.epochs": 4})
    tuning = chosen.settings.finetune
    assert (chosen.settings.seed, tuning.mixup, tuning.epochs) == (1, 0.3, 4)
    lines = "\n".join(chosen.lines)
    assert f"seed = 1 (from {file})" in lines
    assert f"finetune.mixup = 0.3 (from --set, over 0.1 from {file})" in lines
    assert "3 settings, 3 of them other than the default" in lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mixup=0.2", "did you mean finetune.mixup?"),
        ("finetune.mixpu=0.2", "did you mean finetune.mixup?"),
        ("sede=1", "did you mean seed?"),
        ("zzzz=1", "--help-all lists them"),
        ("finetune.mixup", "has no value"),
        ("finetune.mixup=much", "takes a number"),
        ("finetune.mixup=-1", "must be at least 0"),
        ("finetune.mixup=nan", "must be at least 0"),
        ("finetune.dropout=1", "between 0 and 0.99"),
        ("finetune.patience=1.5", "a whole number"),
        ("finetune.optimizer=adam", "there are adamw, sgd"),
        ("finetune.freeze_bn=maybe", "true or false"),
        ("finetune=1", "no setting"),
    ],
)
def test_a_wrong_assignment_is_one_line_with_what_to_write(text, said):
    with pytest.raises(UsageError) as caught:
        choose(None, [text], {})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = '1'", "a whole number"),
        ("seed = true", "a whole number"),
        ("seed = 1\nseed = 2", "is not TOML"),
        ('{"seed": 1}', "is not TOML"),
        ("seed = 1.0", "a whole number"),
        ("finetune = 3", "no setting"),
        ("[finetun]\nmixup = 1", "no setting"),
        ("[finetune.mixup]\nx = 1", "a number"),
        ("mixup = 0.2", "finetune.mixup"),
        ("seed = -1", "at least 0"),
        ("x = " + "[" * 5000, "settings"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, text, said):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        choose(file, (), {})
    assert said in str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_without_settings_are_refused(tmp_path):
    for file in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match="No such file"):
            choose(file, (), {})


def test_every_setting_is_an_option_or_is_answered_with_its_new_form(capsys):
    """Every default of the command line is its field's; every rare field's old option says what to write."""
    given = defaults("train", "photos")
    for name, item in by_name().items():
        if not item.metadata["rare"]:
            assert given[item.name] == item.default, name
            continue
        option = "--" + item.name.replace("_", "-")
        value = [] if isinstance(item.default, bool) else ["1"]
        assert run(["train", "photos", "-o", "run", option, *value]) == 2
        assert f"write it as: --set {name}=" in capsys.readouterr().err


def test_all_settings_are_listed_and_the_short_help_stays_short(capsys):
    assert run(["train", "--help-all"]) == 0
    listed = capsys.readouterr().out
    assert [name for name in by_name() if f"  {name} " not in listed.replace("\n", " \n")] == []
    assert run(["train", "--help"]) == 0
    assert len(re.findall(r"^  -", capsys.readouterr().out, re.MULTILINE)) <= 30


def test_commands_are_listed_in_groups_each_once(capsys):
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    places = [listed.index(f"{title}:") for title in GROUPS]
    assert places == sorted(places)
    assert all(re.search(rf"^  {name} +\w", listed, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_that_the_program_takes(name, capsys):
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out.rstrip().split("Examples:\n")[1]
    assert [line.strip() for line in shown.splitlines()] == list(EXAMPLES[name])
    for line in EXAMPLES[name]:
        assert line.split()[1] == name
        understood(line)
