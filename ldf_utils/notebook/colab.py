"""Install on Colab what the tutorial needs and Colab lacks.

The set-up cell of every notebook calls this right after it has installed the tutorial itself, so
this module imports nothing but the standard library.
"""

from __future__ import annotations

import importlib
import importlib.metadata as installed
import importlib.util
import subprocess
import sys

LACKS = {"open_clip": "open_clip_torch", "pooch": "pooch", "av": "av"}
"""Module to package, for what the notebooks use that is not installed on Colab."""

KEPT = ("torch", "numpy")
"""Packages that stay at Colab's version."""


def install_missing() -> None:
    """Install the packages of ``LACKS`` that are missing, with torch and numpy held as they are.

    Raises:
        CalledProcessError: if pip fails.
        RuntimeError: if a package that is loaded has changed; it says to restart the session.

    Example:
        >>> from ldf_utils.notebook import colab
        >>> colab.install_missing()  # doctest: +SKIP
    """
    lacking = [name for module, name in LACKS.items() if not importlib.util.find_spec(module)]
    if not lacking:
        return
    owners = installed.packages_distributions()
    loaded = {name for module in list(sys.modules) for name in owners.get(module, [])}
    before = {name: installed.version(name) for name in loaded}
    keep = [f"{name}=={installed.version(name)}" for name in KEPT]
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *lacking, *keep], check=True)
    importlib.invalidate_caches()
    stale = sorted(n for n, version in before.items() if installed.version(n) != version)
    if stale:
        raise RuntimeError(
            f"{', '.join(stale)} changed while in use: restart the session "
            "(Runtime > Restart session), then run the notebook from the top"
        )
