"""The registry: every metric by the name that tables use, and what measures several at once."""

from __future__ import annotations

import inspect
import re
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

    Its definition and its source are those of the function's docstring.

    Attributes:
        name: the short name, the column of a table.
        function: ``(fused, infrared, visible) -> (B,)``.
        unit: the unit, empty for a pure number.
        higher_is_better: the direction that papers read it in.
        smallest: the smallest height and width it is defined for.
        conventions: those of `CONVENTIONS` that give another value than the definition, and that
            ``function`` takes as ``convention=``.
    """

    name: str
    function: Callable[..., torch.Tensor]
    unit: str = ""
    higher_is_better: bool = True
    smallest: int = 2
    conventions: tuple[Convention, ...] = ()

    @property
    def definition(self) -> str:
        """One line."""
        line = inspect.getdoc(self.function) or self.name
        return line.partition("\n")[0].removeprefix("Compute ").replace("`", "")

    @property
    def source(self) -> str:
        """Where it was defined: ``DOI ...`` or ``defined here``."""
        text = (self.function.__doc__ or "").rpartition("Source: ")[2]
        found = re.search(r"DOI [^\s,]+\w|defined here", text)
        return found[0] if found else ""

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

#: Functions ``(fused, infrared, visible) -> (B,)`` by the name that tables use.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("EN", no_reference.entropy, unit="bit"),
        Metric("SD", no_reference.standard_deviation, unit="level", conventions=("matlab-uint8",)),
        Metric("SF", no_reference.spatial_frequency, unit="level", conventions=_BOTH),
        Metric("AG", no_reference.average_gradient, unit="level/px", conventions=_BOTH),
        Metric("EI", no_reference.edge_intensity, unit="level"),
        Metric("MI", information.mutual_information, unit="nat", conventions=_BOTH),
        Metric("MI_bits", information.mutual_information_bits, unit="bit", conventions=_BOTH),
        Metric("NMI", information.normalized_mutual_information),
        Metric("CE", information.cross_entropy, unit="bit", higher_is_better=False),
        Metric("SCD", correlation.sum_of_correlations_of_differences),
        Metric("CC", correlation.correlation_coefficient),
        Metric("MSE", psnr.mean_squared_error, higher_is_better=False),
        Metric("PSNR", psnr.peak_signal_to_noise_ratio, unit="dB", conventions=_BOTH),
        Metric(
            "SSIM", ssim.structural_similarity, smallest=ssim.SSIM_SMALLEST, conventions=("vifb",)
        ),
        Metric("MS-SSIM", ssim.multi_scale_structural_similarity, smallest=ssim.MS_SSIM_SMALLEST),
        Metric("SSIMa", ssim.structural_similarity_matlab),
        Metric(
            "VIF",
            vif.visual_information_fidelity,
            smallest=vif.VIF_SMALLEST,
            conventions=("matlab-uint8",),
        ),
        Metric("Qabf", qabf.edge_preservation, conventions=("matlab-uint8",)),
        Metric("Nabf", qabf.fusion_artifacts, higher_is_better=False),
        Metric("Nabf_unweighted", qabf.fusion_artifacts_unweighted, higher_is_better=False),
        Metric("FMI_pixel", fmi.feature_mutual_information_pixel, smallest=3),
        Metric("FMI_edge", fmi.feature_mutual_information_edge, smallest=3),
        Metric("FMI_gradient", fmi.feature_mutual_information_gradient, smallest=3),
        Metric("Qcb", chen.chen_blum),
        Metric("Qcv", chen.chen_varshney, unit="level²", higher_is_better=False),
    )
}

#: Scores against the truth: functions ``(fused, oracle, salient) -> (B,)``.
TRUTH: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("PSNR_oracle", oracle.psnr_to_oracle, unit="dB"),
        Metric("SSIM_oracle", oracle.ssim_to_oracle, smallest=ssim.SSIM_SMALLEST),
        Metric("Warm_shown", oracle.warm_objects_shown),
        Metric("Texture_kept", oracle.texture_kept, smallest=oracle.TEXTURE_SMALLEST),
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
