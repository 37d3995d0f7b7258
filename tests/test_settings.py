"""Settings: what a person types, what a library call takes, and what a run folder keeps are one and the same."""

from __future__ import annotations

import dataclasses

from edge_tl.cli import cli


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
