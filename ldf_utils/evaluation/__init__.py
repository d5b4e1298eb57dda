"""Methods measured, ranked and reported.

``python -m ldf_utils.evaluation SET_DIR`` measures every ``fused_METHOD/`` of a set against its
``ir/`` and ``vi/``: any published results take part once they lie in such a folder, under the
stems of the pairs. Where the right fusion is known (``--truth``), the results are measured against
it too, and so are the metrics: `metric_agreement`. Under ``torchrun`` the pairs are split over its
processes, and the first one reports for all.
"""

from ldf_utils.evaluation.evaluate import (
    EvaluationWarning,
    Fuser,
    Row,
    check_truth,
    evaluate_set,
)
from ldf_utils.evaluation.ranking import (
    Interval,
    RankComparison,
    RankDifference,
    compare_ranks,
    mean_intervals,
    mean_ranks,
    mean_rows,
    metric_agreement,
    metric_names,
    truth_names,
    with_means,
)
from ldf_utils.evaluation.report import format_agreement, format_table, write_report

__all__ = [
    "EvaluationWarning",
    "Fuser",
    "Interval",
    "RankComparison",
    "RankDifference",
    "Row",
    "check_truth",
    "compare_ranks",
    "evaluate_set",
    "format_agreement",
    "format_table",
    "mean_intervals",
    "mean_ranks",
    "mean_rows",
    "metric_agreement",
    "metric_names",
    "truth_names",
    "with_means",
    "write_report",
]
