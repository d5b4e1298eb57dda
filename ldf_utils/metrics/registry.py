"""The registry: every metric by the name that tables use, and what measures several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ldf_utils.metrics import (
    chen,
    correlation,
    fmi,
    information,
    no_reference,
    oracle,
    psnr,
    qabf,
    ssim,
    vif,
)
from ldf_utils.metrics.levels import Convention, as_uint8, check_convention


@dataclass(frozen=True)
class Metric:
    """A metric as tables show it.

    Attributes:
        name: the short name, the column of a table.
        function: ``(fused, infrared, visible) -> (B,)``.
        definition: one line.
        source: where it was defined.
        unit: the unit, empty for a pure number.
        higher_is_better: the direction that papers read it in.
        smallest: the smallest height and width it is defined for.
        conventions: those of `CONVENTIONS` that give another value than the definition, and that
            ``function`` takes as ``convention=``.
    """

    name: str
    function: Callable[..., torch.Tensor]
    definition: str
    source: str
    unit: str = ""
    higher_is_better: bool = True
    smallest: int = 2
    conventions: tuple[Convention, ...] = ()

    @property
    def arrow(self) -> str:
        """An arrow up where higher is better, else down."""
        return "↑" if self.higher_is_better else "↓"

    def __call__(
        self, *pictures: torch.Tensor, convention: Convention = "standard"
    ) -> torch.Tensor:
        """Compute it; a convention that does not change this metric gives the definition."""
        if convention in self.conventions:
            return self.function(*pictures, convention=convention)
        return self.function(*pictures)

    @property
    def header(self) -> str:
        """Name, unit and direction for the head of a column, as ``MI [nat] ↑``."""
        return (
            f"{self.name} [{self.unit}] {self.arrow}" if self.unit else f"{self.name} {self.arrow}"
        )


_BOTH: tuple[Convention, ...] = ("matlab-uint8", "vifb")
_SSIM = "DOI 10.1109/TIP.2003.819861"
_FAST_FMI = "DOI 10.1109/ICAICT.2014.7036000"
_SURVEY = "DOI 10.1016/j.inffus.2018.02.004"
_NABF = "DOI 10.1007/s11760-012-0361-x"
_MI = "DOI 10.1049/el:20020212"
_HERE = "defined here"

#: Functions ``(fused, infrared, visible) -> (B,)`` by the name that tables use.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "EN",
            no_reference.entropy,
            "entropy of the gray levels of the fused picture, 256 bins",
            "DOI 10.1117/1.2945910",
            unit="bit",
        ),
        Metric(
            "SD",
            no_reference.standard_deviation,
            "standard deviation of the gray levels of the fused picture",
            "DOI 10.1088/0957-0233/8/4/002",
            unit="level",
            conventions=("matlab-uint8",),
        ),
        Metric(
            "SF",
            no_reference.spatial_frequency,
            "root mean square step between neighboring pixels of the fused picture",
            "DOI 10.1109/26.477498",
            unit="level",
            conventions=_BOTH,
        ),
        Metric(
            "AG",
            no_reference.average_gradient,
            "mean slope of the fused picture, central differences, divided by H W",
            "DOI 10.1016/j.optcom.2014.12.032",
            unit="level/px",
            conventions=_BOTH,
        ),
        Metric(
            "EI",
            no_reference.edge_intensity,
            "mean magnitude of the Sobel gradient of the fused picture",
            "DOI 10.1109/CVPRW50498.2020.00060",
            unit="level",
        ),
        Metric(
            "MI",
            information.mutual_information,
            "mutual information with the infrared plus that with the visible picture",
            _MI,
            unit="nat",
            conventions=_BOTH,
        ),
        Metric(
            "MI_bits",
            information.mutual_information_bits,
            "MI in bits, 1.4427 times that in nats",
            _MI,
            unit="bit",
            conventions=_BOTH,
        ),
        Metric(
            "NMI",
            information.normalized_mutual_information,
            "mutual information with each source as a share of the entropies, summed",
            "DOI 10.1049/el:20081754",
        ),
        Metric(
            "CE",
            information.cross_entropy,
            "relative entropy of the sources' histograms against the fused one, mean",
            "DOI 10.1016/j.biosystemseng.2009.02.009",
            unit="bit",
            higher_is_better=False,
        ),
        Metric(
            "SCD",
            correlation.sum_of_correlations_of_differences,
            "correlation of (fused - visible) with infrared, plus the same with sources swapped",
            "DOI 10.1016/j.aeue.2015.09.004",
        ),
        Metric(
            "CC", correlation.correlation_coefficient, "correlation with each source, mean", _SURVEY
        ),
        Metric(
            "MSE",
            psnr.mean_squared_error,
            "mean squared difference to each source on [0, 1], mean",
            _SURVEY,
            higher_is_better=False,
        ),
        Metric(
            "PSNR",
            psnr.peak_signal_to_noise_ratio,
            "10 log10 of 1 over the mean squared difference to the sources",
            "DOI 10.1016/j.aqpro.2015.02.019",
            unit="dB",
            conventions=_BOTH,
        ),
        Metric(
            "SSIM",
            ssim.structural_similarity,
            "structural similarity to the infrared plus that to the visible picture, window 7 x 7",
            _SSIM,
            smallest=ssim.SSIM_SMALLEST,
            conventions=("vifb",),
        ),
        Metric(
            "MS-SSIM",
            ssim.multi_scale_structural_similarity,
            "structural similarity over five scales to each source, summed",
            "DOI 10.1109/ACSSC.2003.1292216",
            smallest=ssim.MS_SSIM_SMALLEST,
        ),
        Metric(
            "SSIMa",
            ssim.structural_similarity_matlab,
            "MATLAB's ssim of the fused picture with each source, mean",
            _SSIM,
        ),
        Metric(
            "VIF",
            vif.visual_information_fidelity,
            "visual information fidelity (pixel domain) to each source, summed",
            "DOI 10.1109/TIP.2005.859378",
            smallest=vif.VIF_SMALLEST,
            conventions=("matlab-uint8",),
        ),
        Metric(
            "Qabf",
            qabf.edge_preservation,
            "share of the sources' edges that is kept, in strength and orientation",
            "DOI 10.1049/el:20000267",
            conventions=("matlab-uint8",),
        ),
        Metric(
            "Nabf",
            qabf.fusion_artifacts,
            "share of edge information that neither source has",
            _NABF,
            higher_is_better=False,
        ),
        Metric(
            "Nabf_unweighted",
            qabf.fusion_artifacts_unweighted,
            "Nabf as many tables have it: all places count alike",
            _NABF,
            higher_is_better=False,
        ),
        Metric(
            "FMI_pixel",
            fmi.feature_mutual_information_pixel,
            "normalized mutual information of 3 x 3 windows with each source, mean",
            _FAST_FMI,
            smallest=3,
        ),
        Metric(
            "FMI_edge",
            fmi.feature_mutual_information_edge,
            "as FMI_pixel, of Sobel edges: what many tables call FMI_pixel",
            _FAST_FMI,
            smallest=3,
        ),
        Metric(
            "FMI_gradient",
            fmi.feature_mutual_information_gradient,
            "normalized mutual information of 3 x 3 windows of the slope along rows, mean",
            _FAST_FMI,
            smallest=3,
        ),
        Metric(
            "Qcb",
            chen.chen_blum,
            "share of the visible local contrast of the sources that is kept",
            "DOI 10.1016/j.imavis.2007.12.002",
        ),
        Metric(
            "Qcv",
            chen.chen_varshney,
            "visible difference to the sources where they have edges",
            "DOI 10.1016/j.inffus.2005.10.001",
            unit="level²",
            higher_is_better=False,
        ),
    )
}

#: Scores against the truth: functions ``(fused, oracle, salient) -> (B,)``.
TRUTH: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "PSNR_oracle",
            oracle.psnr_to_oracle,
            "peak signal-to-noise ratio against the true fusion",
            _SSIM,
            unit="dB",
        ),
        Metric(
            "SSIM_oracle",
            oracle.ssim_to_oracle,
            "structural similarity to the true fusion, window 7 x 7",
            _SSIM,
            smallest=ssim.SSIM_SMALLEST,
        ),
        Metric(
            "Warm_shown",
            oracle.warm_objects_shown,
            "share of warm objects that stand out at least half as far as in the true fusion",
            _HERE,
        ),
        Metric(
            "Texture_kept",
            oracle.texture_kept,
            "share of the background texture of the true fusion that is kept",
            _HERE,
            smallest=oracle.TEXTURE_SMALLEST,
        ),
    )
}

#: The nine that most tables show, and the default of everything that takes names of metrics.
USUAL = ("EN", "SD", "SF", "AG", "MI", "SCD", "VIF", "Qabf", "SSIM")


def _named(names: Iterable[str], known: dict[str, Metric], what: str) -> list[Metric]:
    names = list(names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; known are {', '.join(known)}")
    return [known[name] for name in names]


def select(names: Iterable[str] | None = None) -> list[Metric]:
    """Look up metrics by name, in the order given; the `USUAL` nine for None.

    Raises:
        ValueError: for a name that is not in `METRICS`; the known ones are listed.
    """
    return _named(USUAL if names is None else names, METRICS, "metric")


def measure(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    metrics: Iterable[str] | None = None,
    *,
    convention: Convention = "standard",
) -> dict[str, torch.Tensor]:
    """Compute several metrics of the same pictures, which are rounded to gray levels once.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        metrics: names in `METRICS`; the `USUAL` nine for None.
        convention: one of `CONVENTIONS`.

    Returns:
        Name to ``(B,)`` float64, in the order of ``metrics``.

    Raises:
        ValueError: as `select` and `gray_levels`, and for an unknown convention.

    Example:
        >>> picture = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
        >>> measure(picture, picture, picture, ["EN", "CC"])
        {'EN': tensor([8.], dtype=torch.float64), 'CC': tensor([1.], dtype=torch.float64)}
    """
    check_convention(convention)
    chosen = select(metrics)
    with torch.no_grad():
        triple = [as_uint8(image) for image in (fused, infrared, visible)]
        return {metric.name: metric(*triple, convention=convention) for metric in chosen}


def measure_against_oracle(
    fused: torch.Tensor,
    oracle: torch.Tensor,
    salient: torch.Tensor,
    scores: Iterable[str] | None = None,
) -> dict[str, torch.Tensor]:
    """Compute scores of the same pictures against the truth, where it is known.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        oracle: the same: the true fusion.
        salient: the same: how much a pixel belongs to a warm object.
        scores: names in `TRUTH`; all for None.

    Returns:
        Name to ``(B,)`` float64, in the order of ``scores``; NaN where a scene has nothing to
        measure by (no warm object, no texture).

    Raises:
        ValueError: for an unknown name, and as `gray_levels`.
    """
    chosen = _named(TRUTH if scores is None else scores, TRUTH, "score")
    with torch.no_grad():
        triple = [as_uint8(image) for image in (fused, oracle, salient)]
        return {metric.name: metric(*triple) for metric in chosen}
