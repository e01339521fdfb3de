"""The measures that a view can keep."""

import tideline.measures.kept  # noqa: F401 - the twins that take retractions
from tideline.measures.base import Measure, measure_from_json
from tideline.measures.counts import Count, CountBy, TopK
from tideline.measures.extremes import First, Last, Max, Min
from tideline.measures.numbers import Mean, StdDev, Sum, Variance
from tideline.measures.sketches import ApproxDistinct, Quantiles, quantile_name

__all__ = [
    "ApproxDistinct",
    "Count",
    "CountBy",
    "First",
    "Last",
    "Max",
    "Mean",
    "Measure",
    "Min",
    "Quantiles",
    "StdDev",
    "Sum",
    "TopK",
    "Variance",
    "measure_from_json",
    "quantile_name",
]
