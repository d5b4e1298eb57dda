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

pytest.register_assert_rewrite("download_server")

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
def training_scenes():
    """Scenes as the embedded CLIP learns from them: 40 small ones, 12 parts of large ones."""
    from experiments.embedded_clip import dataset

    threads = torch.get_num_threads()
    parts = [dataset._render_chunk((77, 0, 40, 128)), dataset._render_chunk((78, 0, 4, 256))]
    torch.set_num_threads(threads)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


@pytest.fixture(scope="session")
def training_batch(training_scenes):
    """A batch of all of `training_scenes`."""
    from experiments.embedded_clip import dataset

    generator = torch.Generator().manual_seed(2)  # one that draws every degradation
    return dataset.make_batch(training_scenes, torch.arange(52), generator)


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
