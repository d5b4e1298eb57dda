"""Does language matter? Equal trainings that differ in their words or terms, and what came of them.

A single training proves little: another seed gives another network. So each *variant* (a choice of
terms, or of the sentence for the fused picture) is trained with the same number of steps from the
same seeds, and two variants are compared seed by seed: same first weights, crops and noise. What a
sentence should change is declared beforehand, as a measure and a sign
(`ldf_utils.evaluation.ablation.HYPOTHESES`), and the verdict follows from the numbers: moved, did
not move, or moved the other way, where *moved* means that the mean difference is larger than twice
its standard deviation over the seeds.

The trainings run on the training part of the rendered set, or on the sets that ``--train`` names,
and are measured on the test part of the rendered set, whose true fusion is known. Where a folder of
real pairs is named, they are measured on those as well, people and vehicles by their labels.

    python -m experiments.ablation --output runs/ablation   # resumes
    python -m experiments.ablation --data DIR --only filter noisy --seeds 0
    python -m experiments.ablation --group parts --train rendered DIR --data DIR
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

import ldf_utils
from experiments.ablation.measures import measure_network
from experiments.ablation.samples import Settings, prepare, training_sets
from experiments.ablation.variants import _OFF, VARIANTS, Variant
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace
from ldf_utils.data.cli import ignore_interrupts
from ldf_utils.data.files import write_json
from ldf_utils.data.pairs import find_sets
from ldf_utils.evaluation.ablation import Study
from ldf_utils.losses import direction
from ldf_utils.training.trainer import fit

OWN = ("measures.py", "objects.py", "run.py", "samples.py", "variants.py")
"""The files of `experiments.ablation` that train and measure."""


def weights_digest(module: nn.Module) -> str:
    """Compute a fingerprint of all numbers of a model."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def code_files() -> list[Path]:
    """List the code that a result depends on."""
    package, experiments = Path(ldf_utils.__file__).parent, Path(__file__).parent.parent
    rooms = (room for room in package.iterdir() if room.name not in {"evaluation", "notebook"})
    files = [package / "__init__.py", *(path for room in rooms for path in room.rglob("*.py"))]
    own = ("__init__.py", "ablation.py", "declared.py")
    files += [package / "evaluation" / name for name in own]
    return sorted(files + [experiments / "ablation" / name for name in OWN])


@functools.cache
def _code_digest() -> str:
    """Hash the code that trains and measures: when it changes, old results are void."""
    digest = hashlib.sha256()
    for path in code_files():
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


# --- one run, and all of them


def run_key(settings: Settings, variant: Variant, seed: int, clip_digest: str) -> str:
    """Name a run to be kept: other settings, pixels, weights or code, another name."""
    config = replace(settings.config, seed=seed, **variant.changes)
    parts = (config.to_dict(), prepare(settings).digest, clip_digest, _code_digest())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


@functools.lru_cache(maxsize=1)
def _load_clip(name: str) -> ClipSpace:
    return load_clip(name)


def run_variant(settings: Settings, variant: Variant, seed: int) -> dict[str, Any]:
    """One training and what came of it.

    Args:
        settings: what is trained and measured on.
        variant: what is special about this training.
        seed: of the first weights and of all that is drawn.

    Returns:
        ``variant``, ``seed``, ``seconds_per_step`` (of all cores together, so that it does not grow
        when other programs run), ``last`` (the last row of the history) and ``measures``: for each
        place (scenes, pairs) measure to mean.

    Raises:
        ValueError, ldf_utils.training.TrainingError: as `ldf_utils.training.fit`.
    """
    study_data = prepare(settings)
    config = replace(settings.config, seed=seed, **variant.changes)
    clip, begin = _load_clip(config.clip), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = fit(config, study_data.pairs, clip, folder=folder, progress=False)
    seconds = time.process_time() - begin
    return {
        "variant": variant.name,
        "seed": seed,
        "seconds_per_step": seconds / config.steps,
        "last": result.history[-1],
        "measures": {
            place: measure_network(result.network, samples, clip)
            for place, samples in study_data.samples.items()
        },
    }


def _job(settings: Settings, variant: Variant, seed: int, path: Path) -> dict[str, Any]:
    row = run_variant(settings, variant, seed)
    write_json(path, row)
    return row


def run_study(
    settings: Settings,
    output: Path,
    variants: Sequence[Variant] = VARIANTS,
    seeds: Sequence[int] = (0, 1, 2),
    jobs: int = 1,
    progress: bool = True,
) -> Study:
    """Train and measure all variants with all seeds; what was done before is read.

    Args:
        settings: what is trained and measured on.
        output: a finished run is kept in ``output/runs``, under its `run_key`.
        variants: the kinds of training.
        seeds: every variant is trained with each.
        jobs: trainings at the same time, each in a process with one thread; 1 trains in this
            process, with the threads that it has.
        progress: show a bar.

    Returns:
        The results.

    Raises:
        ValueError: for no variant, no seed or a seed twice, ``jobs`` under 1, or a word that CLIP
            does not know.
        RuntimeError: if a training failed; those that were done are kept.
    """
    if not variants or not seeds or len(set(seeds)) < len(seeds) or jobs < 1:
        raise ValueError(
            f"there must be at least one variant, seeds that differ and jobs >= 1, got "
            f"{len(variants)} variants, seeds {list(seeds)} and jobs={jobs}"
        )
    clip = _load_clip(settings.config.clip)
    for variant in variants:  # an unknown word is found before the first training
        direction.text_directions(clip, replace(settings.config, **variant.changes).prompts)
    clip_digest = weights_digest(clip)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    waiting = []
    for seed in seeds:
        for variant in variants:
            path = output / "runs" / f"{run_key(settings, variant, seed, clip_digest)}.json"
            if path.is_file():  # perhaps of a variant with another name and the same settings
                row = json.loads(path.read_text(encoding="utf-8"))
                rows[variant.name, seed] = row | {"variant": variant.name}
            else:
                waiting.append((variant, seed, path))
    bar = tqdm(
        total=len(rows) + len(waiting), initial=len(rows), desc="training", disable=not progress
    )
    failed = []
    with bar:
        for (variant, seed, _), outcome in _outcomes(settings, waiting, jobs):
            bar.update()
            try:
                rows[variant.name, seed] = outcome()
            except (ValueError, RuntimeError, OSError) as error:
                failed.append(f"{variant.name}, seed {seed}: {error}")
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(waiting)} trainings failed; the others are kept in "
            f"{output / 'runs'} and are not made again:\n  " + "\n  ".join(failed)
        )
    study_data = prepare(settings)
    return Study(
        settings=_plain(settings),
        clip={"name": clip.name, "weights_sha256": clip_digest},
        samples={place: len(samples) for place, samples in study_data.samples.items()},
        variants={variant.name: _plain_variant(settings, variant) for variant in variants},
        runs=[rows[variant.name, seed] for variant in variants for seed in seeds],
    )


def _start_worker() -> None:
    ignore_interrupts()
    torch.set_num_threads(1)


def _outcomes(
    settings: Settings, waiting: Sequence[tuple[Variant, int, Path]], jobs: int
) -> Iterator[tuple[tuple[Variant, int, Path], Callable[[], dict[str, Any]]]]:
    """Each job with a function that gives its row or raises, as they get done."""
    if jobs == 1 or len(waiting) < 2:
        for job in waiting:
            yield job, functools.partial(_job, settings, *job)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start_worker
    ) as pool:
        futures = {pool.submit(_job, settings, *job): job for job in waiting}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _plain(settings: Settings) -> dict[str, Any]:
    plain = asdict(settings)
    plain["train"] = [name for name, _ in training_sets(settings.train)]  # names, no path
    plain["data"] = sorted(find_sets(settings.data)) if settings.data else None  # names, no path
    return plain


def _plain_variant(settings: Settings, variant: Variant) -> dict[str, Any]:
    prompts = replace(settings.config, **variant.changes).prompts
    language = not all(variant.changes.get(name) == 0 for name in _OFF)
    return {
        "label": variant.label,
        "sentence": prompts.fused if language else None,
        "changes": dict(variant.changes),
    }
