"""The checks of the notebooks' exercises.

Each takes the learner's answer first, mostly a function, and tries it on numbers of its own.
"""

from __future__ import annotations

import itertools
from typing import Any

from ldf_utils.notebook.answers import (
    Hints,
    exercise,
    expect,
    expect_close,
    expect_no_mistake,
)
from ldf_utils.notebook.exercises_detection import (
    check_average_precision as check_average_precision,
)
from ldf_utils.notebook.exercises_detection import check_overlap as check_overlap
from ldf_utils.notebook.exercises_evaluation import check_cheating_rule as check_cheating_rule
from ldf_utils.notebook.exercises_evaluation import check_mean_ranks as check_mean_ranks
from ldf_utils.notebook.exercises_evaluation import (
    check_standard_deviation as check_standard_deviation,
)
from ldf_utils.notebook.exercises_evaluation import known_nights as known_nights
from ldf_utils.notebook.exercises_first import check_cosine as check_cosine
from ldf_utils.notebook.exercises_first import check_direction_loss as check_direction_loss
from ldf_utils.notebook.exercises_first import check_modality_gap as check_modality_gap
from ldf_utils.notebook.exercises_first import check_preferred_rule as check_preferred_rule
from ldf_utils.notebook.exercises_first import check_recolor as check_recolor
from ldf_utils.notebook.exercises_first import check_salient_source as check_salient_source
from ldf_utils.notebook.exercises_first import check_step as check_step
from ldf_utils.notebook.exercises_first import check_weighted_average as check_weighted_average
from ldf_utils.notebook.exercises_first import check_zero_shot as check_zero_shot
from ldf_utils.notebook.exercises_losses import check_angle_loss as check_angle_loss
from ldf_utils.notebook.exercises_losses import check_entropy_threshold as check_entropy_threshold
from ldf_utils.notebook.exercises_losses import check_patch_loss as check_patch_loss
from ldf_utils.notebook.exercises_losses import check_perceptual_term as check_perceptual_term
from ldf_utils.notebook.exercises_losses import check_prediction as check_prediction
from ldf_utils.notebook.exercises_losses import check_schedule as check_schedule


@exercise("The shard of a process")
def check_share(answer: Any) -> Hints:
    """Check ``function(pairs, rank, count)`` to the numbers of the pairs of one process.

    All shards together hold every pair from 0 to ``pairs - 1``, and they are equally long.
    """
    for pairs, count in ((8, 2), (12, 4), (5, 1), (7, 3)):
        shards = [[int(k) for k in answer(pairs, rank, count)] for rank in range(count)]
        where = f"for {pairs} pairs and {count} processes"
        held, lengths = set(itertools.chain(*shards)), sorted({len(shard) for shard in shards})
        unknown, missing = held - set(range(pairs)), set(range(pairs)) - held
        yield expect(
            not unknown,
            f"{where} there is no pair {min(unknown, default=None)}; pairs are numbered from 0 to "
            f"{pairs - 1}",
        )
        yield expect(
            not missing,
            f"{where} no process has pair {min(missing, default=None)}, so the network never "
            "learns from it",
        )
        yield expect(
            pairs % count or sum(map(len, shards)) == pairs,
            f"{where} some pair occurs twice, although the pairs divide evenly",
        )
        yield expect(
            len(lengths) == 1,
            f"{where} the shards have the lengths {lengths}; a process that has finished its "
            "shard would wait for the others forever. Let some pairs occur twice",
        )


@exercise("What an exchange sends")
def check_ring(answer: Any) -> Hints:
    """Check ``function(parameters, processes)`` to the bytes that each process sends.

    A ring: each process sends ``2 (N - 1)`` messages of one N-th of all gradients in float32.
    """
    found = answer(1_000_000, 4)
    yield expect_no_mistake(
        found,
        {
            "a number in float32 has 4 bytes": 1.5e6,
            "that is one round only: first partial sums go around, then the results": 3e6,
            "each process sends 2 (N - 1) messages, not 2 N": 8e6,
            "that is what all processes send together": 24e6,
        },
    )
    yield expect_close("the bytes for 1,000,000 parameters and 4 processes", found, 6e6)
    yield expect_close("the bytes for 10 parameters and 2 processes", answer(10, 2), 40.0)
    yield expect_close("the bytes of a single process", answer(1000, 1), 0.0)
