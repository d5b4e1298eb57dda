"""What several test files need: reference material, calm numerics, and tests side by side."""

# ruff: noqa: E402  (the number of threads is set before torch is imported)

import os
from pathlib import Path

_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:  # torch reads this when it is imported; the kernels of notebooks inherit it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

import pytest
import torch
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("download_server", "clip_helpers", "browser_helpers")

ROOT = Path(__file__).resolve().parent.parent

# No test depends on the clock, and the same examples are tried in every run.
settings.register_profile(
    "repository",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repository")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes a file stays in one of them, and what takes longest comes first."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: (not item.get_closest_marker("notebook"), item.path not in slow))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference files that lies beside the repository on some machines."""
    folder = Path(os.environ.get("LDF_SHARED_DIR", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference files at {folder} (set LDF_SHARED_DIR to where they are)")
    return folder


@pytest.fixture(scope="session")
def authors_dir() -> Path:
    """Recorded values of the authors' functions and network, see ``tests/data/README.md``."""
    return ROOT / "tests" / "data" / "authors"


@pytest.fixture(scope="session")
def real_data_dir(shared_dir) -> Path:
    """A folder of real sets: LDF_DATA_DIR, or the one among the reference files."""
    folder = Path(os.environ.get("LDF_DATA_DIR", shared_dir / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real pairs at {folder} (set LDF_DATA_DIR)")
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def training_pieces(tmp_path_factory):
    """Packed squares as the embedded CLIP learns from them, of the rendered pairs that ship."""
    from clip_helpers import write_pack

    return write_pack(tmp_path_factory.mktemp("pieces"))


@pytest.fixture(scope="session")
def training_batch(training_pieces):
    """A batch of 52 rendered squares."""
    from experiments.embedded_clip import dataset

    squares = training_pieces.read(training_pieces.where(recorded=False)[:52])
    return dataset.make_batch(squares, torch.Generator().manual_seed(0))  # draws every kind


@pytest.fixture
def pairs():
    """Four small pairs in memory, two of them in color."""
    from training_helpers import make_pair

    return [make_pair(f"p{i}", 40 + i, 50 - i, seed=i, channels=1 + 2 * (i % 2)) for i in range(4)]


@pytest.fixture
def set_folder(pairs, tmp_path):
    """The same pairs as a folder."""
    from ldf_utils.data.images import write_image

    for pair in pairs:
        write_image(pair.infrared, tmp_path / "data" / "Some" / "ir" / f"{pair.name}.png")
        write_image(pair.visible, tmp_path / "data" / "Some" / "vi" / f"{pair.name}.png")
    return tmp_path / "data" / "Some"
