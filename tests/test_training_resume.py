"""Runs that stop, by a fault or from outside, and go on."""

import csv
import errno
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_helpers import (
    SMALL,
    Stop,
    TinyClip,
    TinyNetwork,
    assert_same_bits,
    tiny_network,
    weights_of,
)

from ldf_utils.data.images import ImageError, write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.training.config import RENAMED
from ldf_utils.training.trainer import TrainingError, fit


@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_a_resumed_run_is_the_run_that_never_stopped(stop_at, pairs, tmp_path):
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path / "whole", progress=False)

    def impatient(row, network):
        if row["step"] == stop_at:
            raise Stop

    folder = tmp_path / "stopped"
    with pytest.raises(Stop):
        fit(SMALL, pairs, TinyClip(), tiny_network(), folder, impatient, progress=False)
    with open(folder / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == stop_at
    torch.manual_seed(99)  # whatever happened in between
    steps = []
    other = TinyNetwork() if stop_at > 1 else tiny_network()  # before step 2 there is no checkpoint
    resumed = fit(
        replace(SMALL, cache_mb=0.0, checkpoint_every=3),
        pairs,
        TinyClip(),
        other,
        folder,
        lambda row, network: steps.append(row["step"]),
        resume=True,
        progress=False,
    )
    assert steps[0] == stop_at // 2 * 2 + 1
    assert_same_bits(weights_of(resumed.network), weights_of(whole.network))
    assert resumed.history == whole.history
    saved, expected = (
        torch.load(f / "checkpoint.pt", weights_only=True) for f in (folder, whole.folder)
    )
    for index, moments in expected["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(saved["optimizer"]["state"][index][name], value)


def test_a_finished_run_resumes_to_itself(pairs, tmp_path):
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)
    again = fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)
    assert again.history == whole.history
    assert_same_bits(weights_of(again.network), weights_of(whole.network))


def test_a_new_run_replaces_the_old_one(pairs, tmp_path):
    fit(SMALL, pairs, TinyClip(), BoundedFusionNetwork(4), tmp_path, progress=False)
    assert (tmp_path / "network.pt").is_file()

    def impatient(row, network):
        raise Stop

    with pytest.raises(Stop):
        fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, impatient, progress=False)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"config.json", "environment.json", "history.csv"}
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_named(content, pairs, tmp_path):
    path = tmp_path / "checkpoint.pt"
    if content is None:
        torch.save({"network": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: this is no checkpoint"):
        fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)


def test_other_settings_are_refused_on_resume(pairs, tmp_path):
    fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)

    def again(config=SMALL, pairs=pairs, clip=None):
        fit(config, pairs, clip or TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)

    with pytest.raises(ValueError, match=r"learning_rate was 0\.0005 and is 0\.1"):
        again(replace(SMALL, learning_rate=0.1))
    with pytest.raises(ValueError, match="pairs was 4 and is 3"):
        again(pairs=pairs[:3])
    other = TinyClip()
    other.name = "other"
    with pytest.raises(ValueError, match="clip model was 'tiny' and is 'other'"):
        again(clip=other)


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_evidence(pairs, tmp_path):
    network = tiny_network(dropout=0.0)
    before_the_fall = {}

    def poison(row, network):
        if row["step"] == 4:
            before_the_fall.update(weights_of(network))
        if row["step"] == 5:
            with torch.no_grad():
                network.layers[0].weight[0] = float("nan")

    with pytest.raises(TrainingError, match=r"step 6.*not finite.*total nan.*checkpoint stays"):
        fit(SMALL, pairs, TinyClip(), network, tmp_path, poison, progress=False)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 4
    assert_same_bits(saved["network"], before_the_fall)
    batch = torch.load(tmp_path / "bad_batch_0.pt", weights_only=True)
    assert batch["step"] == 6 and batch["infrared"].shape == (2, 1, 32, 32)
    assert batch["fused"].isnan().any() and math.isnan(batch["terms"]["total"])
    with open(tmp_path / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 5


def test_a_gradient_that_is_not_finite_stops_the_run_too(pairs, tmp_path):
    class Root(TinyNetwork):
        def forward(self, infrared, visible):
            fused = super().forward(infrared, visible)
            return fused + torch.sqrt(fused.detach() * 0 + 0 * self.layers[0].bias.sum())

    network = Root(0.0)
    before = weights_of(network)
    with pytest.raises(TrainingError, match="gradient nan.*no checkpoint yet"):
        fit(SMALL, pairs, TinyClip(), network, tmp_path, progress=False)
    assert_same_bits(weights_of(network), before)


def test_a_picture_that_cannot_be_read_stops_the_run_with_its_name(pairs, tmp_path):
    for pair in pairs:
        write_image(pair.infrared, tmp_path / "data" / "ir" / f"{pair.name}.png")
        write_image(pair.visible, tmp_path / "data" / "vi" / f"{pair.name}.png")
    bad = tmp_path / "data" / "vi" / "p2.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])  # the header is whole
    config = replace(SMALL, order="epochs", batch=1, samples=0, checkpoint_every=1, cache_mb=0.0)
    folder, data = tmp_path / "run", PairFolder(tmp_path / "data")
    with pytest.raises(ImageError, match=r"step \d: .*p2\.png.*(stays at|no checkpoint yet)") as e:
        fit(config, data, TinyClip(), tiny_network(), folder, progress=False)
    assert "resume" in str(e.value)
    bad.write_bytes(whole)  # mended, the run goes on to what it would have been
    network = tiny_network()
    fit(config, data, TinyClip(), network, folder, resume=True, progress=False)
    straight = tiny_network()
    fit(config, data, TinyClip(), straight, tmp_path / "other", progress=False)
    assert_same_bits(weights_of(network), weights_of(straight))


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(pairs, tmp_path, monkeypatch):
    real, calls = torch.save, []

    def save(content, path):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half a check")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(content, path)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(TrainingError, match=r"step 4: .*No space left.*disk full.*stays at"):
        fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not list(tmp_path.glob(".*")), "half a file is left"
    other = TinyNetwork()
    result = fit(SMALL, pairs, TinyClip(), other, tmp_path, resume=True, progress=False)
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path / "whole", progress=False)
    assert_same_bits(weights_of(result.network), weights_of(whole.network))


def test_a_checkpoint_with_settings_of_earlier_names_can_be_resumed(pairs, tmp_path):
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    for old, new in RENAMED.items():
        content["config"][old] = content["config"].pop(new)
    added_since = ("schedule", "accumulate", "order", "augment", "patch_rule")
    added_since += ("patch_filter", "filter_sources", "patch_sources")
    added_since += ("direction_text", "direction_image")
    for added in added_since:
        del content["config"][added]
    torch.save(content, path)
    again = fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)
    assert_same_bits(weights_of(again.network), weights_of(whole.network))
    content["config"]["floor"] = 0.5
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"min_lr_ratio was 0\.5 and is 0\.01"):
        fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)


def test_an_interrupted_run_keeps_every_finished_step(pairs, tmp_path):
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path / "whole", progress=False)

    def impatient(row, network):
        if row["step"] == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        fit(SMALL, pairs, TinyClip(), tiny_network(), folder, impatient, progress=False)
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 3
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + 3
    other = TinyNetwork()
    result = fit(SMALL, pairs, TinyClip(), other, folder, resume=True, progress=False)
    assert_same_bits(weights_of(result.network), weights_of(whole.network))
    assert result.history == whole.history


def test_an_interrupt_within_an_update_keeps_the_last_checkpoint(pairs, tmp_path, monkeypatch):
    """Half of the weights are of the next step then."""
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path / "whole", progress=False)
    real, calls = torch.optim.Adam.step, []

    def step(self, *arguments):
        calls.append(1)
        real(self, *arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt

    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with pytest.raises(KeyboardInterrupt):
            fit(SMALL, pairs, TinyClip(), tiny_network(), folder, progress=False)
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 2
    result = fit(SMALL, pairs, TinyClip(), TinyNetwork(), folder, resume=True, progress=False)
    assert_same_bits(weights_of(result.network), weights_of(whole.network))


KILLED = """
import io, os, random, signal, sys, time, traceback
from dataclasses import replace
from pathlib import Path

import resource
import torch

tests, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(tests), str(tests.parent)]
from training_helpers import SMALL, TinyClip, make_pair

from ldf_utils.data import files
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.training.trainer import TrainingError, fit

torch.set_num_threads(1)
config = replace(SMALL, steps=8, checkpoint_every=1)
pairs = [make_pair(f"p{i}", 40, 50, seed=i) for i in range(3)]
save, replace_file = torch.save, os.replace


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_save(content, path):
    stream = io.BytesIO()
    save(content, stream)
    Path(path).write_bytes(stream.getvalue()[: stream.tell() // 2])
    die()


def at(number, function, otherwise):
    calls = [0]

    def called(*arguments):
        calls[0] += 1
        return (function if calls[0] == number else otherwise)(*arguments)

    return called


def start(folder, hurt=lambda: None):
    # A process of its own, which has everything imported.
    pid = os.fork()
    if pid:
        return pid
    try:
        hurt()
        torch.manual_seed(4)
        fit(config, pairs, TinyClip(), BoundedFusionNetwork(4), folder, resume=True,
            progress=False)
        os._exit(0)
    except TrainingError as error:
        print("stopped:", error, flush=True)
        os._exit(5)
    except BaseException:
        traceback.print_exc()
        os._exit(3)


def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def look(folder):
    # Whenever there is a checkpoint, it is whole.
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


began = time.perf_counter()
assert end(start(out / "whole")) == 0
duration = time.perf_counter() - began

hurts = {
    "before": lambda: setattr(torch, "save", at(1, lambda *a: die(), save)),
    "first write": lambda: setattr(torch, "save", at(1, half_a_save, save)),
    "third write": lambda: setattr(torch, "save", at(3, half_a_save, save)),
    # replaced are: config, environment, checkpoint 1, history, sample, checkpoint 2, ...
    "before the name": lambda: setattr(files.os, "replace", at(6, lambda *a: die(), os.replace)),
    "after the name": lambda: setattr(
        files.os, "replace", at(6, lambda *a: (replace_file(*a), die()), os.replace)
    ),
    "history": lambda: setattr(files.os, "replace", at(7, lambda *a: die(), os.replace)),
}
for name, hurt in hurts.items():
    folder = out / name
    code = end(start(folder, hurt))
    assert code == -signal.SIGKILL, (name, code)
    print(name, "left step", look(folder), flush=True)
    assert end(start(folder)) == 0, name

folder = out / "at random"
for _ in range(5):
    pid = start(folder)
    time.sleep(random.Random(pid).uniform(0, 0.6 * duration))
    os.kill(pid, signal.SIGKILL)
    end(pid)
    print("at random left step", look(folder), flush=True)
assert end(start(folder)) == 0


def small_disk():
    def limited(content, path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        try:
            save(content, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    torch.save = at(4, limited, save)


folder = out / "file too large"
assert end(start(folder, small_disk)) == 5
assert look(folder) == 3
assert end(start(folder)) == 0
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")
def test_killed_at_any_moment_and_resumed_the_weights_are_the_same_bits(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    run = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    for name, step in (
        ("before", 0),
        ("first write", 0),
        ("third write", 2),
        ("before the name", 1),
        ("after the name", 2),
        ("history", 2),
    ):
        assert f"{name} left step {step}\n" in run.stdout, run.stdout
    assert "stopped: step 4: what the run has to keep could not be written" in run.stdout
    expected = load_network(tmp_path / "whole" / "network.pt")
    history = (tmp_path / "whole" / "history.csv").read_text()
    folders = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    assert len(folders) == 9
    for folder in folders:
        assert_same_bits(weights_of(load_network(folder / "network.pt")), weights_of(expected))
        assert (folder / "history.csv").read_text() == history
        assert not list(folder.glob(".*")), "half a file is left"
