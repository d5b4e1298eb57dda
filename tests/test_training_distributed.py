"""Several processes: the gradient of one on the whole batch, and one that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_helpers import (
    LEFT,
    QUICK,
    assert_same_bits,
    tiny_network,
)

from ldf_utils.training.distributed import ProcessError, Team

TOGETHER = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch

tests, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(tests), str(tests.parent)]
from training_helpers import PROMPTS, SMALL, TinyClip, TinyNetwork, make_pair

from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.training.distributed import ProcessError
from ldf_utils.training.trainer import (fit)
from ldf_utils.training.distributed import (join_team)

torch.set_num_threads(1)
loss = FusionLoss(TinyClip(), PROMPTS, sampler=PatchSampler(5, size=16), entropy_threshold=6.92)
draws = loss.sampler.draw(4, torch.Generator().manual_seed(6), (32, 32))
images = torch.rand(3, 4, 1, 32, 32, generator=torch.Generator().manual_seed(5))
team = join_team("cpu")
torch.manual_seed(team.rank)  # different weights, until the team agrees
network = TinyNetwork(0.0)
network.unused = torch.nn.Parameter(torch.ones(2))
team.broadcast(network)


def step(images, draws, average):
    network.zero_grad()
    terms = loss(network(images[1], images[2]), images[1], images[2], draws=draws)
    terms.total.backward()
    if average:
        team.average_gradients(network)
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {"total": terms.total.item(), "gradients": gradients, "kept": terms.kept}


alone = step(images, draws, average=False)
mine = slice(team.rank * 2, team.rank * 2 + 2)
halves = step(images[:, mine], draws.view(5, 4, 2, 3)[:, mine].flatten(0, 1), average=True)
halves["total"] = team.mean({"total": halves["total"]})["total"]

pairs = [make_pair(f"p{i}", 40, 50, seed=i) for i in range(4)]
result = fit(SMALL, pairs, TinyClip(), TinyNetwork(), out / "run", progress=False)
state = {"history": result.history, "network": result.network.state_dict()}
more = replace(SMALL, accumulate=2, order="epochs", checkpoint_every=3)
result = fit(more, pairs, TinyClip(), TinyNetwork(), out / "more", progress=False)
state["more"] = result.network.state_dict()

told = ""
try:
    team.average_gradients(network, failed=team.rank == 1)
except ProcessError as error:
    told = str(error)
team_work = {"told": told, "all": team.gather(team.rank), "shard": team.shard(range(5))}
torch.save({"alone": alone, "halves": halves, "fit": state, "team": team_work},
           out / f"{team.rank}.pt")
"""


def torchrun(*arguments, processes=2, timeout=600):
    """Run under torchrun; gives (exit code, output)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={processes}", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        run.terminate()  # which torchrun passes on to its processes, other than being killed
        output, _ = run.communicate()
        pytest.fail(f"{command} did not end:\n{output[-3000:]}")
    return run.returncode, output


@pytest.mark.slow
def test_two_processes_equal_one_on_the_whole_batch(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    code, output = torchrun(str(script), str(Path(__file__).parent), str(tmp_path))
    assert code == 0, output[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))

    alone, halves = first["alone"], first["halves"]
    assert halves["total"] == pytest.approx(alone["total"], rel=1e-6)
    assert 0 < alone["kept"] < 1
    assert halves["gradients"].keys() - alone["gradients"].keys() == {"unused"}
    for name, gradient in alone["gradients"].items():
        assert gradient.abs().max() > 1e-4
        torch.testing.assert_close(halves["gradients"][name], gradient, atol=1e-6, rtol=0)
    assert_same_bits(halves["gradients"], second["halves"]["gradients"])
    # The whole loop: both processes end with the same weights, and one of them writes.
    assert_same_bits(first["fit"]["network"], second["fit"]["network"])
    assert first["fit"]["history"] == second["fit"]["history"]
    assert len(first["fit"]["history"]) == 6
    assert_same_bits(first["fit"]["more"], second["fit"]["more"])
    assert first["team"]["told"].startswith("process 0 of 2: stopped, because 1 other process")
    assert second["team"]["told"] == "" and second["team"]["all"] == [0, 1]
    assert (first["team"]["shard"], second["team"]["shard"]) == ([0, 2, 4], [1, 3])
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == LEFT


def test_one_process_needs_no_other():
    team, network = Team(0, 1, torch.device("cpu")), tiny_network()
    team.average_gradients(network)
    team.broadcast(network)
    assert team.mean({"a": 1.5}) == {"a": 1.5} and team.gather("x") == ["x"]
    assert team.shard([1, 2, 3]) == [1, 2, 3]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_broken_connection_is_named(monkeypatch):
    def broken(tensor):
        raise RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1\nstack")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(ProcessError, match=r"process 1 of 2.*averaging.*closed by peer.*message"):
        Team(1, 2, torch.device("cpu")).average_gradients(tiny_network())


@pytest.mark.slow
def test_a_process_that_fails_ends_the_job_with_its_reason(set_folder, tmp_path):
    """Two processes, four pairs, one of them damaged: whoever draws it stops them all."""
    bad = set_folder / "ir" / "p1.png"
    bad.write_bytes(bad.read_bytes()[:-200])  # the header is whole
    command = ["-m", "ldf_utils.training", *QUICK, "--set", "order=epochs", "--set", "crop=32"]
    command += ["--set", "batch=2", "--set", "samples=0", "--data", str(set_folder)]
    code, output = torchrun(*command, "--output", str(tmp_path / "run"), timeout=900)
    assert code != 0
    assert "error: process" in output and "p1.png" in output, output[-3000:]
