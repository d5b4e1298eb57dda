"""Fusion metrics: true values, on grey levels 0..255, batched.

Every metric is a function ``(fused, infrared, visible) -> (B,)`` of luminance pictures
``(B, 1, H, W)``, uint8 or floating point in [0, 1], on the CPU or a GPU, computed in float64.
`METRICS` lists them by the name that tables use; each function's docstring has the definition,
the range, the source, and where published implementations disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ldf_utils.metrics.activity import (
    average_gradient,
    entropy,
    spatial_frequency,
    standard_deviation,
)
from ldf_utils.metrics.fidelity import sum_of_correlations_of_differences
from ldf_utils.metrics.information import mutual_information
from ldf_utils.metrics.levels import as_uint8, gray_levels
from ldf_utils.metrics.structure import structural_similarity

__all__ = [
    "METRICS",
    "Metric",
    "as_uint8",
    "average_gradient",
    "entropy",
    "gray_levels",
    "measure",
    "mutual_information",
    "select",
    "spatial_frequency",
    "standard_deviation",
    "structural_similarity",
    "sum_of_correlations_of_differences",
]


@dataclass(frozen=True)
class Metric:
    """A metric as tables show it.

    Attributes:
        name: the short name, the column of a table.
        function: ``(fused, infrared, visible) -> (B,)``.
        higher_is_better: the direction that papers read it in.
        unit: the unit, empty for a pure number.
        definition: one line.
        source: where it was defined.
    """

    name: str
    function: Callable[..., torch.Tensor]
    higher_is_better: bool
    unit: str
    definition: str
    source: str

    @property
    def arrow(self) -> str:
        """An arrow up where higher is better, else down."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def header(self) -> str:
        """Name, unit and direction for the head of a column, as ``MI [nat] ↑``."""
        return (
            f"{self.name} [{self.unit}] {self.arrow}" if self.unit else f"{self.name} {self.arrow}"
        )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "EN",
            entropy,
            True,
            "bit",
            "entropy of the grey levels of the fused picture, 256 bins",
            "DOI 10.1117/1.2945910",
        ),
        Metric(
            "SD",
            standard_deviation,
            True,
            "level",
            "standard deviation of the grey levels of the fused picture",
            "DOI 10.1088/0957-0233/8/4/002",
        ),
        Metric(
            "SF",
            spatial_frequency,
            True,
            "level",
            "root mean square step between neighbouring pixels of the fused picture",
            "DOI 10.1109/26.477498",
        ),
        Metric(
            "AG",
            average_gradient,
            True,
            "level/px",
            "mean slope of the fused picture, central differences, divided by H W",
            "DOI 10.1016/j.optcom.2014.12.032",
        ),
        Metric(
            "MI",
            mutual_information,
            True,
            "nat",
            "mutual information with the infrared plus that with the visible picture",
            "DOI 10.1049/el:20020212",
        ),
        Metric(
            "SCD",
            sum_of_correlations_of_differences,
            True,
            "",
            "correlation of (fused - visible) with infrared plus that of (fused - infrared) "
            "with visible",
            "DOI 10.1016/j.aeue.2015.09.004",
        ),
        Metric(
            "SSIM",
            structural_similarity,
            True,
            "",
            "structural similarity to the infrared plus that to the visible picture, window 7 x 7",
            "DOI 10.1109/TIP.2003.819861",
        ),
    )
}


def select(names: Iterable[str] | None = None) -> list[Metric]:
    """The metrics of these names, in the order given; all of them for None.

    Raises:
        ValueError: for a name that is not in `METRICS`; the known ones are listed.
    """
    if names is None:
        return list(METRICS.values())
    names = list(names)
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric {', '.join(unknown)}; known are {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


def measure(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    metrics: Iterable[str] | None = None,
) -> dict[str, torch.Tensor]:
    """Several metrics of the same pictures; they are rounded to grey levels once.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        metrics: names in `METRICS`; all of them for None.

    Returns:
        Name to ``(B,)`` float64, in the order of ``metrics``.

    Raises:
        ValueError: as `select` and `gray_levels`.
    """
    chosen = select(metrics)
    with torch.no_grad():
        triple = [as_uint8(image) for image in (fused, infrared, visible)]
        return {metric.name: metric.function(*triple) for metric in chosen}
