"""Alignments as JSON files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ldf_utils.data.files import atomic_path, write_json
from ldf_utils.registration.align import Alignment


def save(alignment: Alignment, path: str | os.PathLike, **more: Any) -> Path:
    """Write an alignment as JSON, and its deformation beside it as ``.npz``, atomically.

    Keys: ``matrix`` (3 x 3, from visible to infrared pixels, centers at integers),
    ``visible_size`` and ``infrared_size`` ([width, height]), ``offset`` (visible pixels, before),
    ``confidence`` (0 to 1), ``accepted``, ``aligned``, ``reason``, ``deformation`` (whether one was
    added), ``deformation_file``, and what ``more`` has.
    """
    path = Path(path)
    field = alignment.deformation
    name = f"{path.stem}.deformation.npz"
    if field is not None:
        with atomic_path(path.with_name(name)) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, displacement=field.astype(np.float16))
    return write_json(
        path,
        {
            "matrix": alignment.matrix.tolist(),
            "visible_size": list(alignment.visible_size[::-1]),
            "infrared_size": list(alignment.infrared_size[::-1]),
            "offset": round(alignment.offset, 3),
            "confidence": round(alignment.confidence, 4),
            "accepted": alignment.accepted,
            "aligned": alignment.aligned,
            "reason": alignment.reason,
            "deformation": field is not None,
            "deformation_file": None if field is None else name,
            **more,
        },
    )


def load(path: str | os.PathLike) -> Alignment:
    """Read what `save` wrote; a file of another program needs ``matrix`` and both sizes.

    Raises:
        ValueError: if the file is not such a JSON, or its matrix has no inverse.
        OSError: if it cannot be read.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        matrix = np.array(values["matrix"], np.float64)
        sizes = [(int(y), int(x)) for x, y in (values["visible_size"], values["infrared_size"])]
        name = values.get("deformation_file")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a transform as python -m ldf_utils.registration writes it (JSON "
            f"with matrix, visible_size and infrared_size), found {type(error).__name__}: {error}"
        ) from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise ValueError(f"{path}: matrix must be 3 x 3 with an inverse, got {matrix.tolist()}")
    field = None
    if name:
        with np.load(path.with_name(name)) as file:
            field = file["displacement"].astype(np.float32)
    return Alignment(
        matrix,
        sizes[0],
        sizes[1],
        float(values.get("offset", 0.0)),
        float(values.get("confidence", 1.0)),
        bool(values.get("accepted", True)),
        bool(values.get("aligned", False)),
        str(values.get("reason", f"read from {path.name}")),
        field,
    )
