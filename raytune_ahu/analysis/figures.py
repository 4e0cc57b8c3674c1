"""Every picture of a run: results in, plotly figures out.

They draw; what they show is computed in the other modules of `raytune_ahu.analysis`. What a figure
leaves out, or where its view ends, is told by `caption(figure)`. A figure for which a run has
nothing to show raises an `AhuError` that says why.
"""

from raytune_ahu.analysis.figures_cost import cost_bars, worker_timeline
from raytune_ahu.analysis.figures_importance import importance_bars, parameter_slice
from raytune_ahu.analysis.figures_parallel import parallel_coordinates
from raytune_ahu.analysis.figures_progress import (
    comparison_curves,
    incumbent_curve,
    learning_curves,
    rung_funnel,
)
from raytune_ahu.analysis.figures_style import caption, template
from raytune_ahu.analysis.figures_suggestions import suggestion_curves

__all__ = [
    "caption",
    "comparison_curves",
    "cost_bars",
    "importance_bars",
    "incumbent_curve",
    "learning_curves",
    "parallel_coordinates",
    "parameter_slice",
    "rung_funnel",
    "suggestion_curves",
    "template",
    "worker_timeline",
]
