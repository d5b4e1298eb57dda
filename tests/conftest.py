"""What several test files need: where optional reference material is, and calm numerics."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference files that lies beside the repository on some machines."""
    folder = Path(os.environ.get("LDF_SHARED_DIR", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference files at {folder} (set LDF_SHARED_DIR to where they are)")
    return folder


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
def lesson_scenes():
    """Scenes as the embedded CLIP learns from them: 40 small ones, 12 parts of large ones."""
    from experiments.embedded_clip import dataset

    threads = torch.get_num_threads()
    parts = [dataset._render_chunk((77, 0, 40, 128)), dataset._render_chunk((78, 0, 4, 256))]
    torch.set_num_threads(threads)
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


@pytest.fixture(scope="session")
def lesson(lesson_scenes):
    """Pictures of all of `lesson_scenes`, and the truth about each."""
    from experiments.embedded_clip import dataset

    generator = torch.Generator().manual_seed(2)  # one that draws every kind of damage
    return dataset.make_batch(lesson_scenes, torch.arange(52), generator)
