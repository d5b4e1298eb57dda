"""Fusion metrics: true values, on grey levels 0..255, batched.

Every metric is a function ``(fused, infrared, visible) -> (B,)`` of luminance pictures
``(B, 1, H, W)``, uint8 or floating point in [0, 1], on the CPU or a GPU, computed in float64.
`METRICS` lists them by the name that tables use; each function's docstring has the definition,
the range, the source, and where published implementations disagree. ``convention=`` switches to
what published tables were made with; the default is the true value.

Where the right fusion is known, as on generated scenes, `TRUTH` lists scores against it, and
`judge` computes them.

``python -m ldf_utils.metrics --benchmark`` measures how fast they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ldf_utils.metrics.activity import (
    average_gradient,
    edge_intensity,
    entropy,
    spatial_frequency,
    standard_deviation,
)
from ldf_utils.metrics.edges import edge_preservation, fusion_artifacts
from ldf_utils.metrics.fidelity import (
    correlation_coefficient,
    mean_squared_error,
    peak_signal_to_noise_ratio,
    sum_of_correlations_of_differences,
)
from ldf_utils.metrics.information import (
    cross_entropy,
    feature_mutual_information_gradient,
    feature_mutual_information_pixel,
    mutual_information,
    mutual_information_bits,
    normalized_mutual_information,
)
from ldf_utils.metrics.levels import CONVENTIONS, Convention, as_uint8, gray_levels
from ldf_utils.metrics.perception import chen_blum, chen_varshney
from ldf_utils.metrics.reference import (
    TEXTURE_SMALLEST,
    psnr_to_oracle,
    ssim_to_oracle,
    texture_kept,
    warm_objects,
    warm_objects_shown,
)
from ldf_utils.metrics.structure import (
    MS_SSIM_SMALLEST,
    SSIM_SMALLEST,
    VIF_SMALLEST,
    multi_scale_structural_similarity,
    structural_similarity,
    visual_information_fidelity,
)

__all__ = [
    "CONVENTIONS",
    "METRICS",
    "TRUTH",
    "USUAL",
    "Convention",
    "Metric",
    "as_uint8",
    "average_gradient",
    "chen_blum",
    "chen_varshney",
    "correlation_coefficient",
    "cross_entropy",
    "edge_intensity",
    "edge_preservation",
    "entropy",
    "feature_mutual_information_gradient",
    "feature_mutual_information_pixel",
    "fusion_artifacts",
    "gray_levels",
    "judge",
    "mean_squared_error",
    "measure",
    "multi_scale_structural_similarity",
    "mutual_information",
    "mutual_information_bits",
    "normalized_mutual_information",
    "peak_signal_to_noise_ratio",
    "psnr_to_oracle",
    "select",
    "spatial_frequency",
    "ssim_to_oracle",
    "standard_deviation",
    "structural_similarity",
    "sum_of_correlations_of_differences",
    "texture_kept",
    "visual_information_fidelity",
    "warm_objects",
    "warm_objects_shown",
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
        smallest: the smallest height and width it is defined for.
    """

    name: str
    function: Callable[..., torch.Tensor]
    higher_is_better: bool
    unit: str
    definition: str
    source: str
    smallest: int = 2

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


_HIGHER, _LOWER = True, False
_FAST_FMI = "DOI 10.1109/ICAICT.2014.7036000"
_SURVEY = "DOI 10.1016/j.inffus.2018.02.004"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "EN",
            entropy,
            _HIGHER,
            "bit",
            "entropy of the grey levels of the fused picture, 256 bins",
            "DOI 10.1117/1.2945910",
        ),
        Metric(
            "SD",
            standard_deviation,
            _HIGHER,
            "level",
            "standard deviation of the grey levels of the fused picture",
            "DOI 10.1088/0957-0233/8/4/002",
        ),
        Metric(
            "SF",
            spatial_frequency,
            _HIGHER,
            "level",
            "root mean square step between neighbouring pixels of the fused picture",
            "DOI 10.1109/26.477498",
        ),
        Metric(
            "AG",
            average_gradient,
            _HIGHER,
            "level/px",
            "mean slope of the fused picture, central differences, divided by H W",
            "DOI 10.1016/j.optcom.2014.12.032",
        ),
        Metric(
            "EI",
            edge_intensity,
            _HIGHER,
            "level",
            "mean magnitude of the Sobel gradient of the fused picture",
            "DOI 10.1109/CVPRW50498.2020.00060",
        ),
        Metric(
            "MI",
            mutual_information,
            _HIGHER,
            "nat",
            "mutual information with the infrared plus that with the visible picture",
            "DOI 10.1049/el:20020212",
        ),
        Metric(
            "MI_bits",
            mutual_information_bits,
            _HIGHER,
            "bit",
            "MI in bits, 1.4427 times that in nats",
            "DOI 10.1049/el:20020212",
        ),
        Metric(
            "NMI",
            normalized_mutual_information,
            _HIGHER,
            "",
            "mutual information with each source as a share of the entropies, summed",
            "DOI 10.1049/el:20081754",
        ),
        Metric(
            "CE",
            cross_entropy,
            _LOWER,
            "bit",
            "relative entropy of the sources' histograms against the fused one, mean",
            "DOI 10.1016/j.biosystemseng.2009.02.009",
        ),
        Metric(
            "SCD",
            sum_of_correlations_of_differences,
            _HIGHER,
            "",
            "correlation of (fused - visible) with infrared plus that of (fused - infrared) "
            "with visible",
            "DOI 10.1016/j.aeue.2015.09.004",
        ),
        Metric(
            "CC",
            correlation_coefficient,
            _HIGHER,
            "",
            "correlation with each source, mean",
            _SURVEY,
        ),
        Metric(
            "MSE",
            mean_squared_error,
            _LOWER,
            "",
            "mean squared difference to each source on [0, 1], mean",
            _SURVEY,
        ),
        Metric(
            "PSNR",
            peak_signal_to_noise_ratio,
            _HIGHER,
            "dB",
            "10 log10 of 1 over the mean squared difference to the sources",
            "DOI 10.1016/j.aqpro.2015.02.019",
        ),
        Metric(
            "SSIM",
            structural_similarity,
            _HIGHER,
            "",
            "structural similarity to the infrared plus that to the visible picture, window 7 x 7",
            "DOI 10.1109/TIP.2003.819861",
            SSIM_SMALLEST,
        ),
        Metric(
            "MS-SSIM",
            multi_scale_structural_similarity,
            _HIGHER,
            "",
            "structural similarity over five scales to each source, summed",
            "DOI 10.1109/ACSSC.2003.1292216",
            MS_SSIM_SMALLEST,
        ),
        Metric(
            "VIF",
            visual_information_fidelity,
            _HIGHER,
            "",
            "visual information fidelity (pixel domain) to each source, summed",
            "DOI 10.1109/TIP.2005.859378",
            VIF_SMALLEST,
        ),
        Metric(
            "Qabf",
            edge_preservation,
            _HIGHER,
            "",
            "share of the sources' edges that is kept, in strength and orientation",
            "DOI 10.1049/el:20000267",
        ),
        Metric(
            "Nabf",
            fusion_artifacts,
            _LOWER,
            "",
            "share of edge information that neither source has",
            "DOI 10.1007/s11760-012-0361-x",
        ),
        Metric(
            "FMI_pixel",
            feature_mutual_information_pixel,
            _HIGHER,
            "",
            "normalized mutual information of 3 x 3 windows with each source, mean",
            _FAST_FMI,
            3,
        ),
        Metric(
            "FMI_gradient",
            feature_mutual_information_gradient,
            _HIGHER,
            "",
            "normalized mutual information of 3 x 3 windows of the slope along rows, mean",
            _FAST_FMI,
            3,
        ),
        Metric(
            "Qcb",
            chen_blum,
            _HIGHER,
            "",
            "share of the visible local contrast of the sources that is kept",
            "DOI 10.1016/j.imavis.2007.12.002",
        ),
        Metric(
            "Qcv",
            chen_varshney,
            _LOWER,
            "level²",
            "visible difference to the sources where they have edges",
            "DOI 10.1016/j.inffus.2005.10.001",
        ),
    )
}

_HERE = "defined here"

#: Scores against the truth: functions ``(fused, oracle, salient) -> (B,)``, for `judge`.
TRUTH: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "PSNR_oracle",
            psnr_to_oracle,
            _HIGHER,
            "dB",
            "peak signal-to-noise ratio against the true fusion",
            "DOI 10.1109/TIP.2003.819861",
        ),
        Metric(
            "SSIM_oracle",
            ssim_to_oracle,
            _HIGHER,
            "",
            "structural similarity to the true fusion, window 7 x 7",
            "DOI 10.1109/TIP.2003.819861",
            SSIM_SMALLEST,
        ),
        Metric(
            "Warm_shown",
            warm_objects_shown,
            _HIGHER,
            "",
            "share of warm objects that stand out at least half as far as in the true fusion",
            _HERE,
        ),
        Metric(
            "Texture_kept",
            texture_kept,
            _HIGHER,
            "",
            "share of the background texture of the true fusion that is kept",
            _HERE,
            TEXTURE_SMALLEST,
        ),
    )
}

#: The nine that most tables show, and the default of everything that takes names of metrics.
USUAL = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM")


def select(names: Iterable[str] | None = None) -> list[Metric]:
    """The metrics of these names, in the order given; the `USUAL` nine for None.

    Raises:
        ValueError: for a name that is not in `METRICS`; the known ones are listed.
    """
    names = list(USUAL if names is None else names)
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric {', '.join(unknown)}; known are {', '.join(METRICS)}")
    return [METRICS[name] for name in names]


def measure(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    metrics: Iterable[str] | None = None,
    *,
    convention: Convention = "standard",
) -> dict[str, torch.Tensor]:
    """Several metrics of the same pictures; they are rounded to grey levels once.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        metrics: names in `METRICS`; the `USUAL` nine for None.
        convention: one of `CONVENTIONS`.

    Returns:
        Name to ``(B,)`` float64, in the order of ``metrics``.

    Raises:
        ValueError: as `select` and `gray_levels`.
    """
    chosen = select(metrics)
    with torch.no_grad():
        triple = [as_uint8(image) for image in (fused, infrared, visible)]
        return {metric.name: metric.function(*triple, convention=convention) for metric in chosen}


def judge(
    fused: torch.Tensor,
    oracle: torch.Tensor,
    salient: torch.Tensor,
    scores: Iterable[str] | None = None,
) -> dict[str, torch.Tensor]:
    """Scores of the same pictures against the truth, where it is known.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        oracle: the same: the true fusion (``oracle`` of `ldf_utils.data.scenes.render`).
        salient: the same: how much a pixel belongs to a warm object (``salient`` of it).
        scores: names in `TRUTH`; all for None.

    Returns:
        Name to ``(B,)`` float64, in the order of ``scores``; NaN where a scene has nothing to
        judge by (no warm object, no texture).

    Raises:
        ValueError: for an unknown name, and as `gray_levels`.
    """
    names = list(TRUTH if scores is None else scores)
    unknown = [name for name in names if name not in TRUTH]
    if unknown:
        raise ValueError(f"unknown score {', '.join(unknown)}; known are {', '.join(TRUTH)}")
    with torch.no_grad():
        triple = [as_uint8(image) for image in (fused, oracle, salient)]
        return {name: TRUTH[name].function(*triple) for name in names}
