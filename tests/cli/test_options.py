"""The command line is a contract: these lists change only together with docs/how-to and the changelog."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import typer

from anymri.cli import app

COMMANDS = {
    "prepare": {"SOURCE", "OUT", "--layout", "--task", "--scheme", "--workers"},
    "train": {
        *("METHOD_OR_RECIPE", "--data", "--out", "--fold", "--steps", "--minutes", "--init", "--resume", "--from", "--set"),
        *("--allow-missing", "--material"),
        *("--seed", "--device"),
    },
    "segment": {
        *("STUDY", "--flair", "--t1", "--t1c", "--t2", "--image", "--out", "--weights", "--labels", "--probabilities"),
        *("--precision", "--device", "--cohort", "--shard", "--workers", "--backend"),
    },
    "evaluate": {"WEIGHTS_OR_RUN", "--data", "--out", "--protocol", "--fold", "--masks", "--scheme", "--set", "--device"},
    "compare": {
        *("METHOD", "--data", "--out", "--folds", "--fold", "--steps", "--minutes", "--seed", "--size", "--set", "--resume"),
        *("--protocol", "--allow-missing", "--device"),
    },
    "calibrate": {"WEIGHTS_OR_RUN", "--data", "--out", "--fold", "--for", "--check", "--device"},
    "report": {"SCORES_OR_RUN", "--out", "--published", "--case", "--data", "--subset", "--across-protocols", "--device"},
    "export": {"WEIGHTS", "--format", "--out"},
    "list": {"WHAT"},
    "weights list": set(),
    "weights where": {"NAME"},
    "weights verify": set(),
    "weights import": {"FILE"},
}


def _options(command: object) -> set[str]:
    found = set()
    for parameter in command.params:  # type: ignore[attr-defined]
        if parameter.name == "help":
            continue
        if parameter.param_type_name == "argument":
            found.add(str(parameter.metavar or parameter.name).upper())
        else:
            found.update(o for o in parameter.opts if o.startswith("--"))
    return found


def test_commands_and_their_options_are_frozen() -> None:
    found = {}
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        for word, leaf in {f"{name} {n}": c for n, c in inner.items()}.items() if inner else {name: command}.items():
            found[word] = _options(leaf)
    assert found == COMMANDS


def test_help_needs_no_torch() -> None:
    code = """
import sys
sys.argv = ['anymri', '--help']
try:
    import anymri.cli
    anymri.cli.main()
finally:
    assert 'torch' not in sys.modules
"""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "segment" in done.stdout
    assert time.perf_counter() - started < 60  # a start-up that hangs, not a speed claim


@pytest.mark.parametrize("what", ["methods", "cohorts", "tasks", "recipes", "protocols", "published"])
def test_lists_name_what_there_is(run, what: str) -> None:
    done = run("list", what)
    assert done.code == 0
    expected = {
        **{"methods": "ccsd", "cohorts": "brats", "tasks": "prostate", "recipes": "shipped.ccsd_small", "protocols": "anymri"},
        "published": "ccsd-table-1",
    }
    assert expected[what] in done.out


def test_an_unknown_list_names_the_known_ones(run) -> None:
    done = run("list", "wishes")
    assert done.code == 2
    assert "expected methods" in done.err
