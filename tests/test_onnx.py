"""The exported network: any size, equal to the network, run by ONNX Runtime."""

import copy
import sys

import numpy as np
import pytest
import torch

from ldf_utils.data.images import luminance, read_image, replace_luminance, write_image
from ldf_utils.fusion import export, runtime
from ldf_utils.fusion.__main__ import main as fuse
from ldf_utils.fusion.export import ExportError, export_onnx
from ldf_utils.fusion.inference import fuse_tensors
from ldf_utils.fusion.runtime import OnnxNetwork, onnx_network
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import load_network

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.slow

SIZES = [
    *((32, 32), (33, 47), (48, 64), (101, 99), (128, 128)),
    *((240, 320), (255, 257), (300, 500), (64, 1000), (480, 640)),
]


@pytest.fixture(scope="module")
def network():
    return load_network("shipped")


@pytest.fixture(scope="module", autouse=True)
def exported_once():
    """What torch exports is kept, since that takes most of the time."""
    kept: dict[str, object] = {}
    export_core = export._core

    def once(network):
        name = str(network)
        if name not in kept:
            kept[name] = export_core(network)
        return copy.deepcopy(kept[name])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_core", once)
        yield


@pytest.fixture(scope="module")
def exported(network, exported_once, tmp_path_factory):
    """The shipped network with color and without, as files."""
    folder = tmp_path_factory.mktemp("onnx")
    return {
        color: export_onnx(network, folder / f"{color}.onnx", color=color)
        for color in (True, False)
    }


def pair(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(batch, 4, height // 8 + 2, width // 8 + 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noisy = (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
    return noisy[:, :1].contiguous(), noisy[:, 1:].contiguous()


@torch.no_grad()
def test_the_file_gives_what_the_network_gives_at_any_size(network, exported):
    color = onnxruntime.InferenceSession(exported[True], providers=["CPUExecutionProvider"])
    gray = OnnxNetwork(exported[False])
    for size in SIZES:
        infrared, visible = pair(*size)
        light = luminance(visible)
        fused = network(infrared, light)
        assert (gray(infrared, light) - fused).abs().max() < 1e-4, size
        feed = {"infrared": infrared.numpy(), "visible": visible.numpy()}
        (found,) = color.run(["fused"], feed)
        assert np.abs(found - replace_luminance(visible, fused).numpy()).max() < 1e-4, size


@torch.no_grad()
def test_batches_are_fused_too(network, exported):
    infrared, visible = pair(40, 70, batch=3)
    light = luminance(visible)
    found = OnnxNetwork(exported[False])(infrared, light)
    torch.testing.assert_close(found, network(infrared, light), rtol=0, atol=1e-4)


def test_it_is_one_file_of_plain_operators(exported):
    import onnx

    model = onnx.load(exported[True])
    assert sorted(path.name for path in exported[True].parent.iterdir()) == [
        "False.onnx",
        "True.onnx",
    ]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not model.functions


def test_the_runtime_stands_in_for_the_network(network, tmp_path, monkeypatch):
    first = onnx_network(network, folder=tmp_path)
    monkeypatch.setattr(runtime, "export_onnx", lambda *_, **__: pytest.fail("exported again"))
    onnx_network(network, threads=1, folder=tmp_path)
    infrared, visible = pair(70, 90)
    torch.testing.assert_close(
        fuse_tensors(first, infrared, visible),
        fuse_tensors(network, infrared, visible),
        rtol=0,
        atol=1e-4,
    )
    with pytest.raises(pytest.fail.Exception, match="exported again"):
        onnx_network(BoundedFusionNetwork(width=4).eval(), folder=tmp_path)


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "fusion.onnx"
    assert fuse(["export", "--to", "onnx", "--output", str(path), "--luminance"]) == 0
    assert "BoundedFusionNetwork" in capsys.readouterr().out and path.stat().st_size > 500_000
    infrared, visible = pair(48, 64)
    write_image(infrared[0], tmp_path / "ir" / "a.png")
    write_image(visible[0], tmp_path / "vi" / "a.png")
    named = ["--infrared", str(tmp_path / "ir"), "--visible", str(tmp_path / "vi")]
    for name in ("torch", "onnx"):
        assert fuse([*named, "--runtime", name, "--output", str(tmp_path / name)]) == 0
    one, other = (read_image(tmp_path / name / "a.png") for name in ("torch", "onnx"))
    assert (one - other).abs().max() <= 1 / 255 + 1e-6
    assert fuse(["export", "--output", str(tmp_path)]) == 2
    assert "folder" in capsys.readouterr().err


def test_what_is_wrong_is_said(exported, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="--luminance"):
        OnnxNetwork(exported[True])
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ExportError, match=r"text\.onnx"):
        OnnxNetwork(tmp_path / "text.onnx")

    class Odd(torch.nn.Module):
        def forward(self, infrared, visible):
            return infrared if infrared.mean() > visible.mean() else visible

    with pytest.raises(ExportError, match="cannot export Odd"):
        export_onnx(Odd(), tmp_path / "odd.onnx")
    assert not (tmp_path / "odd.onnx").exists()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="pip install"):
        OnnxNetwork(exported[False])
