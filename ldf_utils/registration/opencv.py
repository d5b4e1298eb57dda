"""OpenCV, which registration needs and the rest of the package does not."""

from __future__ import annotations

import functools
import importlib
from typing import Any


class MissingExtra(ImportError):
    """A library is not installed that one part of the package needs; the text says what to do."""


@functools.cache
def opencv() -> Any:
    """Import OpenCV when it is first needed.

    Raises:
        MissingExtra: if it is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingExtra(
            "registering pictures needs OpenCV, which is not installed here; install it with\n"
            "  python -m pip install opencv-python-headless\n"
            "or with the extra of this package: python -m pip install -e '.[cameras]'"
        ) from error
