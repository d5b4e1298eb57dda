"""Runtime: run a network by ONNX Runtime in place of torch, which is faster on a CPU."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pooch
import torch
from torch import nn

from ldf_utils.fusion.export import OPSET, ExportError, export_onnx, needed
from ldf_utils.networks.sentence import SentenceFusionNetwork

_FORMAT = 1  # of what `export_onnx` writes; raise it where that changes


class OnnxNetwork:
    """Run an exported network by ONNX Runtime, as if it were the network itself.

    Args:
        path: a file of `export_onnx` without color (``color=False``).
        threads: cores for one call; None leaves it to the runtime.
        directions: ``(2, D)``, what a network that takes sentences is told.

    Raises:
        ExportError: if ONNX Runtime is missing, or the file is no such network.

    Example:
        >>> network = OnnxNetwork("fusion.onnx")  # doctest: +SKIP
        >>> fused = network(infrared, luminance)  # (B, 1, H, W) each  # doctest: +SKIP
    """

    local = True

    def __init__(
        self,
        path: str | os.PathLike,
        threads: int | None = None,
        directions: torch.Tensor | None = None,
    ):
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of the runtime's own types
            raise ExportError(f"{path}: ONNX Runtime cannot read it ({error})") from error
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        spoken = shapes.pop("directions", None)
        if (spoken is None) != (directions is None):
            raise ExportError(
                f"{path}: expected {'no ' if spoken is None else ''}directions for this network"
            )
        self._more = {} if directions is None else {"directions": directions.cpu().numpy().copy()}
        if set(shapes) != {"infrared", "visible"} or shapes["visible"][1] != 1:
            raise ExportError(
                f"{path}: expected inputs infrared and visible of one channel, found {shapes}; "
                "export the network with --luminance"
            )

    def __call__(self, infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Fuse two luminance batches ``(B, 1, H, W)`` in [0, 1]."""
        feed = {
            name: tensor.detach().cpu().float().contiguous().numpy()
            for name, tensor in (("infrared", infrared), ("visible", visible))
        }
        (fused,) = self._session.run(["fused"], feed | self._more)
        return torch.from_numpy(fused)


def onnx_network(
    network: nn.Module, threads: int | None = None, folder: str | os.PathLike | None = None
) -> OnnxNetwork:
    """Export a network once, keep the file, and run it by ONNX Runtime.

    Args:
        network: as in `export_onnx`.
        threads: as in `OnnxNetwork`.
        folder: where the file is kept, by the hash of the weights; by default in the cache of
            ``python -m data_download``.

    Raises:
        ExportError: as `export_onnx` and `OnnxNetwork`.
        OSError: if the folder cannot be written.
    """
    needed("onnxruntime")
    digest = hashlib.sha256(f"{_FORMAT} {OPSET} {torch.__version__} {network}".encode())
    said = network.spoken if isinstance(network, SentenceFusionNetwork) else None
    for name, tensor in network.state_dict().items():
        if name == "spoken":  # one file for all sentences
            continue
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    folder = Path(pooch.os_cache("ldf_tutorial")) / "onnx" if folder is None else Path(folder)
    path = folder / f"{type(network).__name__}_{digest.hexdigest()[:16]}.onnx"
    if not path.is_file():
        export_onnx(network, path, color=False)
    return OnnxNetwork(path, threads, said)
