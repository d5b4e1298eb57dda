"""The authors' weights, from the command line to the network: what is fetched loads, or is refused.

The two official files are not at hand, so the state dict has their names and shapes and made-up
values, saved as the authors' program saves it.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from download_server import Server, blob, hurry, sha256
from rendered_helpers import write_crops

from data_download import load_registry, weights_dir
from data_download.__main__ import main
from data_download.registry import REGISTRY
from ldf_utils.data.images import read_image
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.fusion import __main__ as fusion
from ldf_utils.networks import checkpoint, ldfusion


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The shipped registry, with a local server in the place of the real one."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.delenv("LDF_WEIGHTS_DIR", raising=False)
    monkeypatch.delenv("LDF_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    hurry(monkeypatch)
    server = Server()
    tables = tmp_path / "tables"
    shutil.copytree(REGISTRY.parent, tables)
    text = (tables / "sets.toml").read_text()
    (tables / "sets.toml").write_text(text.replace(load_registry()["tno"].base, server.url, 1))
    server.tables = tables
    yield server
    server.close()


def serve(server, name, contents):
    """Let the server have these contents, and the table know them by their hashes."""
    dataset = load_registry()[name]
    rows = ["path,bytes,hash"]
    for file in dataset.files:
        content = contents.get(file.path, b"text of " + file.path.encode())
        server.files[f"{dataset.source}/{dataset.commit}/{file.path}"] = content
        digest = blob(content) if file.bytes is None else sha256(content)
        rows.append(f"{file.path},{'' if file.bytes is None else len(content)},{digest}")
    table = server.tables / dataset.spec["table"]
    text = table.read_text().splitlines()[1:]
    known = {row.split(",")[0] for row in rows}
    rows += [row for row in text if row.split(",")[0] not in known]
    table.write_text("\n".join(rows) + "\n")


def saved(value, path: Path) -> bytes:
    torch.save(value, path)
    return path.read_bytes()


def official_state(half, authors_dir):
    """Made-up values under the names and shapes of the authors' file."""
    with open(authors_dir / "ldfusion_state_dict.json") as file:
        shapes = json.load(file)
    generator = torch.Generator().manual_seed(len(half))
    return {
        name: torch.ones(shape)
        if name.endswith("running_var")
        else 0.05 * torch.randn(shape, generator=generator)
        for name, shape in shapes[half]
    }


def fuse_by_command(name, folder):
    """One made-up pair through ``python -m ldf_utils.fusion --weights NAME``."""
    pairs = write_crops(folder / "pairs", 1, (48, 64))
    sources = ["--infrared", str(pairs.folder / "ir"), "--visible", str(pairs.folder / "vi")]
    assert fusion.main([*sources, "--output", str(folder / "out"), "--weights", name]) == 0
    assert read_image(folder / "out" / "00000.png").shape == (3, 48, 64)


def test_ldfusion_weights_are_fetched_and_load_strictly(source, authors_dir, tmp_path):
    encoder = official_state("encoder", authors_dir)
    decoder = official_state("decoder", authors_dir)
    contents = {
        "weight/Enc_final.pt": saved(encoder, tmp_path / "e.pt"),
        "weight/Dec_final.pt": saved(decoder, tmp_path / "d.pt"),
    }
    serve(source, "ldfusion-weights", contents)
    with pytest.raises(WeightsError, match="data_download"):
        checkpoint.load_network("ldfusion")
    assert main(["get", "ldfusion-weights", "--registry", str(source.tables / "sets.toml")]) == 0
    assert (weights_dir() / "LDFusion" / "Enc_final.pt").is_file()
    network = checkpoint.load_network("ldfusion")
    assert isinstance(network, ldfusion.PaperNetwork)
    state = network.state_dict()
    for half, values in (("encoder", encoder), ("decoder", decoder)):
        for name, value in values.items():
            torch.testing.assert_close(state[f"{half}.{name}"], value, rtol=0, atol=0)
    with torch.no_grad():
        fused = network(torch.rand(1, 1, 32, 40), torch.rand(1, 1, 32, 40))
    assert fused.shape == (1, 1, 32, 40)
    assert torch.isfinite(fused).all()
    fuse_by_command("ldfusion", tmp_path)


def test_ld_lite_weights_are_fetched_and_load(source, shared_dir, tmp_path):
    original = shared_dir / "weights" / "LD-Lite" / "final.pt"
    if not original.is_file():
        pytest.skip(f"there is no {original}")
    serve(source, "ld-lite", {"weight/final.pt": original.read_bytes()})
    to = ["--to", str(source.tables.parent / "sets")]
    assert main(["get", "ld-lite", "--registry", str(source.tables / "sets.toml"), *to]) == 0
    assert (weights_dir() / "LD-Lite" / "final.pt").read_bytes() == original.read_bytes()
    assert isinstance(checkpoint.load_network("ld-lite"), ldfusion.LDLite)
    fuse_by_command("ld-lite", tmp_path)


class Harmful:
    """A pickle of this runs a command when it is loaded without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_something_is_refused(source, tmp_path):
    trace = tmp_path / "it ran"
    content = saved({"weight": Harmful(trace)}, tmp_path / "harmful.pt")
    serve(
        source,
        "ldfusion-weights",
        {"weight/Enc_final.pt": content, "weight/Dec_final.pt": content},
    )
    assert main(["get", "ldfusion-weights", "--registry", str(source.tables / "sets.toml")]) == 0
    with pytest.raises(WeightsError):
        checkpoint.load_network("ldfusion")
    assert not trace.exists()
