"""Fusion metrics: true values, on gray levels 0..255, batched.

Every metric is a function ``(fused, infrared, visible) -> (B,)`` of luminance pictures
``(B, 1, H, W)``, uint8 or floating point in [0, 1], on the CPU or a GPU, computed in float64.
`METRICS` lists them by the name that tables use; each function's docstring has the definition,
the range, the source, and where published implementations disagree. ``convention=`` of those that
have one switches to what published tables were made with; the default is the true value.

Where the right fusion is known, as on rendered pairs, `TRUTH` lists scores against it, and
`measure_against_oracle` computes them.

``python -m experiments.metrics_speed`` measures how fast they are.
"""

from ldf_utils.metrics.chen import chen_blum, chen_varshney
from ldf_utils.metrics.correlation import (
    correlation_coefficient,
    sum_of_correlations_of_differences,
)
from ldf_utils.metrics.fmi import (
    edge_map,
    edge_window_shares,
    feature_mutual_information_edge,
    feature_mutual_information_gradient,
    feature_mutual_information_pixel,
)
from ldf_utils.metrics.information import (
    cross_entropy,
    mutual_information,
    mutual_information_bits,
    normalized_mutual_information,
)
from ldf_utils.metrics.levels import CONVENTIONS, Convention, as_uint8, gray_levels
from ldf_utils.metrics.no_reference import (
    average_gradient,
    edge_intensity,
    entropy,
    spatial_frequency,
    standard_deviation,
)
from ldf_utils.metrics.oracle import (
    background_detail,
    psnr_to_oracle,
    ssim_to_oracle,
    texture_kept,
    warm_gap,
    warm_objects,
    warm_objects_shown,
)
from ldf_utils.metrics.psnr import mean_squared_error, peak_signal_to_noise_ratio
from ldf_utils.metrics.qabf import edge_preservation, fusion_artifacts, fusion_artifacts_unweighted
from ldf_utils.metrics.registry import (
    METRICS,
    TRUTH,
    USUAL,
    Metric,
    measure,
    measure_against_oracle,
    select,
)
from ldf_utils.metrics.ssim import (
    multi_scale_structural_similarity,
    structural_similarity,
    structural_similarity_matlab,
)
from ldf_utils.metrics.vif import visual_information_fidelity

__all__ = [
    "CONVENTIONS",
    "METRICS",
    "TRUTH",
    "USUAL",
    "Convention",
    "Metric",
    "as_uint8",
    "average_gradient",
    "background_detail",
    "chen_blum",
    "chen_varshney",
    "correlation_coefficient",
    "cross_entropy",
    "edge_intensity",
    "edge_map",
    "edge_preservation",
    "edge_window_shares",
    "entropy",
    "feature_mutual_information_edge",
    "feature_mutual_information_gradient",
    "feature_mutual_information_pixel",
    "fusion_artifacts",
    "fusion_artifacts_unweighted",
    "gray_levels",
    "mean_squared_error",
    "measure",
    "measure_against_oracle",
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
    "structural_similarity_matlab",
    "sum_of_correlations_of_differences",
    "texture_kept",
    "visual_information_fidelity",
    "warm_gap",
    "warm_objects",
    "warm_objects_shown",
]
