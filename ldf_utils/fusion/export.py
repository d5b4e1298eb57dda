"""Export: a fusion network as one ONNX file that takes pairs of any size.

The exported graph pads, fuses, crops and, if wanted, takes luminance from color and gives it back,
so that a program in any language needs nothing but an ONNX runtime and two pictures.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ldf_utils.data.files import atomic_path
from ldf_utils.networks.bounded import SMALLEST_SIDE
from ldf_utils.networks.sentence import SentenceFusionNetwork

OPSET = 18
"""Version of the ONNX operators: read by every runtime of 2023 and later."""

_LARGEST = 512  # times the multiple of the network: the largest side that is exported for
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class ExportError(RuntimeError):
    """A network cannot be exported; the text says what to do."""


def needed(name: str) -> Any:
    """Import a package of the extra ``onnx``.

    Raises:
        ExportError: if it is not installed, with how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"this needs {name}, which is not installed; "
            "python -m pip install onnx onnxruntime onnxscript"
        ) from error


def export_onnx(network: nn.Module, path: str | os.PathLike, *, color: bool = True) -> Path:
    """Write a network as one ONNX file, weights within, for pairs of any size from 32 pixels up.

    Inputs ``infrared`` ``(B, 1, H, W)`` and ``visible`` ``(B, 3, H, W)`` or, without color,
    ``(B, 1, H, W)``, float32 in [0, 1]; output ``fused`` of the shape of ``visible``. The graph
    takes the BT.601 luminance, pads by reflection to a multiple of the network's, fuses, crops,
    and gives the color back as `ldf_utils.data.images.replace_luminance` does.

    A `SentenceFusionNetwork` has a third input, ``directions`` ``(2, D)``: the two text directions,
    which `ldf_utils.fusion.sentence.sentence_directions` computes, so one file says
    every sentence.

    Args:
        network: such as `BoundedFusionNetwork`, on the CPU, in eval mode.
        path: the file, by custom ending in ``.onnx``; written atomically.
        color: whether the conversion from and to color is in the graph.

    Returns:
        The path written.

    Raises:
        ExportError: if a package is missing or too old, or torch cannot export this network.

    Example:
        >>> export_onnx(load_network("shipped"), "fusion.onnx")  # doctest: +SKIP
    """
    onnx = needed("onnx")
    needed("onnxscript")
    model = _core(network)
    dim = _dim_of(network)
    graph = model.graph
    for node in graph.node:  # names of its own, so that none of ours is taken
        node.name = f"network/{node.name}"
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = name and f"network/{name}"
    for kept in (*graph.initializer, *graph.value_info):
        kept.name = f"network/{kept.name}"
    inside = [f"network/{value.name}" for value in (*graph.input, *graph.output)]
    _surround(onnx, graph, inside, getattr(network, "multiple", 1), color, dim)
    del graph.value_info[:]
    model.producer_name, model.producer_version = "ldf_utils", ""
    model.doc_string = (
        "Fuses infrared (B, 1, H, W) and visible "
        f"(B, {3 if color else 1}, H, W), float32 in [0, 1], H and W at least {SMALLEST_SIDE}"
        + ("." if dim is None else f", as directions (2, {dim}) say.")
    )
    onnx.checker.check_model(model)
    with atomic_path(path) as temporary:
        onnx.save(model, str(temporary))
    return Path(path)


def _core(network: nn.Module) -> Any:
    """Export the network itself, for sizes that are multiples of its own."""
    multiple = getattr(network, "multiple", 1)
    side = 4 * max(multiple, 16)
    sizes: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=64)}
    for axis, name in ((2, "rows"), (3, "columns")):
        least = -(-SMALLEST_SIDE // multiple)
        blocks = torch.export.Dim(name, min=least, max=_LARGEST)
        sizes[axis] = multiple * blocks if multiple > 1 else blocks
    inputs = [torch.rand(2, 1, side, side + 2 * multiple) for _ in range(2)]
    shapes: tuple[Any, ...] = (sizes, sizes)
    dim = _dim_of(network)
    if dim is not None:
        inputs, shapes = [*inputs, torch.randn(2, dim)], (*shapes, None)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        # With a gradient, networks take operators that graphs are good at.
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                tuple(inputs),
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # of many kinds
        cause = error.__cause__ or error
        text = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ExportError(
            f"torch {torch.__version__} cannot export {type(network).__name__}: {text}. The "
            "networks that ship with this package are tested with torch 2.15"
        ) from error
    assert program is not None
    return program.model_proto


def _dim_of(network: nn.Module) -> int | None:
    """Return how long the text directions are that a network takes, or None if it takes none."""
    return network.dim if isinstance(network, SentenceFusionNetwork) else None


def _surround(
    onnx: Any, graph: Any, inside: list[str], multiple: int, color: bool, dim: int | None
) -> None:
    """Put luminance, padding, cropping and color around the network."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    before: list[Any] = []
    after: list[Any] = []

    def constant(name: str, values: Any, dtype: torch.dtype = torch.int64) -> str:
        tensor = torch.tensor(values, dtype=dtype).numpy()
        graph.initializer.append(numpy_helper.from_array(tensor, name))
        return name

    def add(nodes: list[Any], kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    gray = "visible"
    if color:
        luma = constant("luma", [[[[weight]] for weight in _LUMA]], torch.float32)
        gray = add(before, "Conv", ["visible", luma], "luminance")
    # Sizes of the picture, and how much is missing to the next multiples.
    add(before, "Shape", ["infrared"], "size", start=2, end=4)
    constant("multiple", [multiple, multiple])
    add(before, "Neg", ["size"], "minus_size")
    add(before, "Mod", ["minus_size", "multiple"], "missing")
    add(before, "Concat", [constant("six_zeros", [0] * 6), "missing"], "pads", axis=0)
    for source, target in (("infrared", inside[0]), (gray, inside[1])):
        add(before, "Pad", [source, "pads"], target, mode="reflect")
    if dim is not None:
        add(before, "Identity", ["directions"], inside[2])
    start, axes = constant("first", [0, 0]), constant("axes", [2, 3])
    fused = "fused_luminance" if color else "fused"
    add(after, "Slice", [inside[-1], start, "size", axes], fused)
    if color:
        add(after, "Sub", ["fused_luminance", "luminance"], "change")
        add(after, "Add", ["visible", "change"], "colored")
        limits = [constant("black", 0.0, torch.float32), constant("white", 1.0, torch.float32)]
        add(after, "Clip", ["colored", *limits], "fused")

    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    number = onnx.TensorProto.FLOAT
    channels = 3 if color else 1
    for values, name, depth in (
        (graph.input, "infrared", 1),
        (graph.input, "visible", channels),
        (graph.output, "fused", channels),
    ):
        shape = ["batch", depth, "height", "width"]
        values.append(helper.make_tensor_value_info(name, number, shape))
    if dim is not None:
        graph.input.append(helper.make_tensor_value_info("directions", number, [2, dim]))
