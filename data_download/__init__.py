"""Public data sets and weights, verified and resumable: ``python -m data_download --help``.

from data_download import get
folder = get("roadscene")      # data/roadscene with ir/, vi/ and SOURCE.md
"""

# ruff: noqa: E402  (Ctrl-C should work while the rest is imported)
from ldf_utils.data.cli import end_on_interrupt_while_importing

end_on_interrupt_while_importing()

from data_download.api import get, verify
from data_download.errors import DownloadError
from data_download.hashes import git_blob_id
from data_download.registry import DataSet, RegistryError, Roots, load_registry, weights_dir
from data_download.store import Options, SetError
from data_download.transfer import Policy

__all__ = [
    "DataSet",
    "DownloadError",
    "Options",
    "Policy",
    "RegistryError",
    "Roots",
    "SetError",
    "get",
    "git_blob_id",
    "load_registry",
    "verify",
    "weights_dir",
]
