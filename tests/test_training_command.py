"""The command line of the training."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_helpers import (
    LEFT,
    QUICK,
)

from ldf_utils.networks.checkpoint import load_network
from ldf_utils.training.__main__ import main

ROOT = Path(__file__).resolve().parent.parent


def test_command_line_trains_refuses_to_overwrite_and_resumes(set_folder, tmp_path, capsys):
    settings = tmp_path / "settings.toml"
    settings.write_text("steps = 100\ncrop = 32\nbatch = 1\nnetwork = 'bounded'\n")
    output = tmp_path / "run"
    command = ["--config", str(settings), *QUICK, "--output", str(output), "--data"]
    assert main([*command, str(set_folder)]) == 0
    assert "3 steps" in capsys.readouterr().out
    assert load_network(output / "network.pt").metadata["config"]["crop"] == 32
    assert main([*command, str(set_folder)]) == 2
    said = capsys.readouterr().err
    assert "--resume" in said and "--output DIR" in said
    assert main([*command, str(set_folder.parent), "--resume"]) == 0


def test_command_line_names_the_folder_after_the_configuration(
    set_folder, tmp_path, monkeypatch, capsys
):
    (tmp_path / "mine.toml").write_text("crop = 32\nbatch = 1\n")
    monkeypatch.chdir(tmp_path)
    assert main(["--config", "mine.toml", *QUICK, "--data", str(set_folder)]) == 0
    left = {path.name for path in (tmp_path / "runs" / "mine").iterdir()}
    assert left == LEFT | {"network.pt", "curves.png"}
    assert main([*QUICK, "--data", str(set_folder)]) == 2
    assert "--output" in capsys.readouterr().err


def test_command_line_takes_words_as_they_are(set_folder, tmp_path):
    output = tmp_path / "run"
    command = [*QUICK, "--set", "crop=32", "--set", "batch=1", "--set", "prompt_fused=a sharp one"]
    assert main([*command, "--data", str(set_folder), "--output", str(output)]) == 0
    assert json.loads((output / "config.json").read_text())["prompt_fused"] == "a sharp one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "stepps=3"], "did you mean steps"),
        (["--set", "steps=many"], "--set: steps must be of type int, got 'many'"),
        (["--set", "steps"], "--set: expected KEY=VALUE, got 'steps'"),
        (["--set", "lean=true"], "--set: the setting 'lean' is now called 'frozen'"),
        (["--data", "nowhere"], "nowhere"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        ([*QUICK, "--set", "crop=2000"], "too few for crops of 2000"),
    ],
)
def test_command_line_errors(arguments, message, set_folder, tmp_path, capsys):
    if "--data" not in arguments:
        arguments = [*arguments, "--data", str(set_folder)]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_command_line_help_lists_the_settings(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--resume" in text and "weight_patch=10.0" in "".join(text.split())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_ends_with_one_line_that_says_what_is_kept(set_folder, tmp_path):
    output = tmp_path / "run"
    arguments = [*QUICK, "--set", "steps=100000", "--set", "crop=32", "--set", "batch=1"]
    arguments += ["--set", "checkpoint_every=1", "--set", "samples=0"]
    arguments += ["--data", str(set_folder), "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "ldf_utils.training", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while not process.stdout.readline().startswith("step 3 of"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    steps = torch.load(output / "checkpoint.pt", weights_only=True)["step"]
    assert steps >= 3
    kept = f"{steps} steps are kept in {output / 'checkpoint.pt'}"
    assert said == f"stopped from the keyboard; {kept}; go on with --resume\n"
