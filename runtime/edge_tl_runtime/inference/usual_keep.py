"""The fraction of known photos that a file keeps known unless somebody asks for another: what its background photos chose."""

from __future__ import annotations

from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.modelfile.spec import ModelSpec

KEY = "usual_keep"
"""Of the parameters of the score; absent where nothing chose."""


def usual_keep(spec: ModelSpec, otherwise: float) -> float:
    """otherwise: of a file that does not say. Raises BadModelError for a fraction that the file has no threshold for."""
    value = otherwise if spec.ood_score is None else spec.ood_score.parameters.get(KEY, otherwise)
    if spec.ood_score is None or value == otherwise:
        return otherwise
    if not isinstance(value, float) or value not in {float(keep) for keep in spec.ood_score.thresholds}:
        raise BadModelError("model contract: the usual fraction to keep has no threshold; export the model again")
    return value
