"""Networks: two luminance images in, the fused luminance out.

Five architectures share the call ``network(infrared, visible) -> fused``, all ``(B, 1, H, W)``:

- `BoundedFusionNetwork`, the project's own: small enough to train on a CPU, and bounded, so that
  it can only weigh, mix and stretch what the sources hold;
- `SalientFusionNetwork`, the same with an offset for what stands out in the infrared image;
- `SentenceFusionNetwork`, which takes the text directions of any sentence as a third input;
- `PaperNetwork`, LDFusion (arXiv:2402.16267), which takes the authors' published weights;
- `LDLite`, the authors' distilled student (DOI 10.1109/TNNLS.2026.3688448).

`save_network` and `load_network` keep a network with its architecture in one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pooch
import torch
from torch import nn

from ldf_utils.data.files import atomic_path
from ldf_utils.data.state_dict import WeightsError, check_state, named_tensors, read_weights
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.ldfusion import LDLite, PaperNetwork
from ldf_utils.networks.salient import SalientFusionNetwork
from ldf_utils.networks.sentence import SentenceFusionNetwork

SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights" / "fusion_bounded.pt"
"""The project's own trained network."""
SENTENCE_WEIGHTS = SHIPPED_WEIGHTS.with_name("fusion_sentence.pt")
"""The one that takes any sentence."""
STUDENT_WEIGHTS = SHIPPED_WEIGHTS.with_name("fusion_student.pt")
"""The project's own at half the width, taught by it: half the time (docs/student.md)."""

_FORMAT = "ldf_utils.networks/1"


_ARCHITECTURES = {
    kind.__name__: kind
    for kind in (
        BoundedFusionNetwork,
        SalientFusionNetwork,
        SentenceFusionNetwork,
        PaperNetwork,
        LDLite,
    )
}

# name -> (folder and files in a folder of weights, the set of data_download that brings them)
_PUBLISHED = {
    "ld-lite": ("LD-Lite", ("final.pt",), "ld-lite"),
    "ldfusion": ("LDFusion", ("Enc_final.pt", "Dec_final.pt"), "ldfusion-weights"),
}


def weights_dir() -> Path:
    """Where optional official weights are looked for first.

    Returns:
        The folder named by ``LDF_WEIGHTS_DIR``; without it the folder ``weights`` beside
        ``LDF_DATA_DIR``; without both the cache of ``python -m data_download``. It need not exist.
    """
    if os.environ.get("LDF_WEIGHTS_DIR"):
        return Path(os.environ["LDF_WEIGHTS_DIR"])
    if os.environ.get("LDF_DATA_DIR"):
        return Path(os.environ["LDF_DATA_DIR"]).resolve().parent / "weights"
    return _download_cache()


def _download_cache() -> Path:
    return Path(pooch.os_cache("ldf_tutorial")) / "weights"


def save_network(
    network: nn.Module, path: str | os.PathLike, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write a network to one file, atomically: architecture, arguments, tensors, metadata.

    The file holds plain types and tensors only, so ``torch.load(..., weights_only=True)`` reads it.

    Args:
        network: one of the architectures of this module.
        path: the file, by custom ending in ``.pt``.
        metadata: anything that JSON can hold (command, seed, date, measured values).

    Returns:
        The path written.

    Raises:
        TypeError: if the network is of another class, or the metadata is not plain.
    """
    architecture = type(network).__name__
    if _ARCHITECTURES.get(architecture) is not type(network):
        raise TypeError(
            f"{path}: a {architecture} cannot be saved; expected one of "
            f"{', '.join(_ARCHITECTURES)} (from DistributedDataParallel pass `.module`)"
        )
    content = {
        "format": _FORMAT,
        "architecture": architecture,
        "arguments": dict(network.arguments),
        "state": {
            name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()
        },
        "metadata": json.loads(json.dumps(dict(metadata or {}))),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return Path(path)


def load_network(name_or_path: str | os.PathLike = "shipped") -> nn.Module:
    """Load a trained network, in eval mode, on the CPU, in float32.

    Args:
        name_or_path: ``"shipped"`` (the project's own), ``"student"`` (the same in half the time),
            ``"sentence"`` (the one that takes any sentence; without one it says the paper's),
            ``"ld-lite"`` or ``"ldfusion"`` (the authors', looked for in `weights_dir` and in the
            cache of ``python -m data_download``), or a path: a file of `save_network`, LD-Lite's
            ``final.pt``, or LDFusion's ``Enc_final.pt`` or ``Dec_final.pt`` beside each other
            (either file or their folder).

    Returns:
        The network; ``network.metadata`` is what `save_network` was given, empty for the authors'.

    Raises:
        WeightsError: if nothing is found (with what was looked for and how to get it), or a file
            is damaged or holds another network.
    """
    name = os.fspath(name_or_path)
    own = {  # name to the file, and what makes it
        "shipped": (SHIPPED_WEIGHTS, "experiments.shipped_network train"),
        "student": (STUDENT_WEIGHTS, "experiments.student train"),
        "sentence": (SENTENCE_WEIGHTS, "experiments.sentence train"),
    }
    if name in own:
        path, command = own[name]
        if not path.is_file():
            raise WeightsError(
                f"{path}: the weights {name!r}, which ship with the package, are not there; "
                "restore them with `git checkout -- ldf_utils/weights`, or train such a network "
                f"(`python -m {command}`)"
            )
        network = _load_file(path)
    elif name in _PUBLISHED:
        network = _load_file(_find_published(name))
    else:
        path = Path(name)
        if not path.exists() and not path.suffix:
            raise WeightsError(
                f"{name!r} is neither a file nor a known network; expected "
                f"{', '.join([*own, *_PUBLISHED])} or the path of a weights file"
            )
        network = _load_file(path / "Enc_final.pt" if path.is_dir() else path)
    return network.eval()


def _find_published(name: str) -> Path:
    folder, files, download = _PUBLISHED[name]
    roots = dict.fromkeys([weights_dir(), _download_cache()])
    for root in roots:
        if all((root / folder / file).is_file() for file in files):
            return root / folder / files[0]
    wanted = " and ".join(f"{folder}/{file}" for file in files)
    raise WeightsError(
        f"{name}: {wanted} not found in {' or '.join(map(str, roots))}. Get the authors' weights "
        f"with `python -m data_download get {download}`, or set LDF_WEIGHTS_DIR to the folder that "
        f"holds {folder}/"
    )


def _with_metadata(network: nn.Module, metadata: dict[str, Any]) -> nn.Module:
    setattr(network, "metadata", metadata)  # noqa: B010 (a module's types know tensors only)
    return network


def _load_file(path: Path) -> nn.Module:
    network: nn.Module
    if path.name in _PUBLISHED["ldfusion"][1]:
        network = PaperNetwork()
        network.load_authors(*(path.parent / f for f in _PUBLISHED["ldfusion"][1]))
        return _with_metadata(network, {})
    content = read_weights(path)
    if not isinstance(content, dict):
        content = named_tensors(content, path)  # refuses what is no mapping
    if content.get("format") == _FORMAT:
        try:
            network = _ARCHITECTURES[content["architecture"]](**content["arguments"])
            state, metadata = content["state"], dict(content["metadata"])
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{path}: this file of save_network cannot be used ({error!r}); it was changed or "
                "written by another version of the package. Save the network again"
            ) from error
    elif "format" in content:
        raise WeightsError(
            f"{path}: found format {content['format']!r}, expected {_FORMAT!r}; the file was "
            "written by another version of the package. Save the network again"
        )
    elif any(str(key).startswith(("content_encoder", "style_encoder", "mlp.")) for key in content):
        raise WeightsError(
            f"{path}: this is one half of LDFusion; its encoder and decoder are expected beside "
            f"each other as {' and '.join(_PUBLISHED['ldfusion'][1])}. Name the files so and give "
            "the folder"
        )
    else:
        network, state, metadata = LDLite(), content, {}
    check_state(state, network.state_dict(), path, type(network).__name__)
    network.load_state_dict(state)
    return _with_metadata(network, metadata)
