"""Settings: what a person types, what a library call takes, and what a run folder keeps are one and the same."""

from __future__ import annotations

import dataclasses
import re
import sys

import pytest
from test_documentation import understood

from edge_tl.adversarial.settings import AttackSettings, DreamSettings, PackSettings
from edge_tl.cli import COMMANDS, GROUPS, cli, run
from edge_tl.cli.examples import EXAMPLES
from edge_tl.training.settings import TrainSettings
from edge_tl.training.settings_file import assembled, by_name, choose, written
from edge_tl_runtime.core.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def defaults(name: str, *words: str) -> dict[str, object]:
    """What a command passes on where nothing is asked for."""
    command = cli.get_command(None, name)
    assert command is not None
    with command.make_context(name, list(words)) as context:
        return context.params


def test_run_takes_the_defaults_of_its_library_call():
    """Sizes were multiplied twice: logs of the command line rotated at 11 TB in place of 10 MB."""
    from edge_tl_runtime.run.assemble import Plan

    given = defaults("run", "m.onnx")
    own = {item.name: item.default for item in dataclasses.fields(Plan) if item.name != "model"}
    assert {name: given[name] for name in own} == own


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
    settings = assembled({name: value for name, (value, _) in VALUES.items()})
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
    assert chosen.settings == assembled(chosen.given)
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


@pytest.mark.parametrize(
    ("name", "settings"), [("attack", AttackSettings), ("pack", PackSettings), ("dream", DreamSettings)]
)
def test_options_have_the_defaults_of_their_fields(name, settings):
    given = defaults(name, "m.onnx", *(["--class", "a"] if name == "dream" else ["photos"]))
    for item in dataclasses.fields(settings):
        if item.name in given:
            assert given[item.name] == item.default, item.name


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
