"""Contracts for tests that need just any one, and strategies for what may stand in them."""

from __future__ import annotations

from hypothesis import strategies as st

from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

RULE = ResizeRule(height=8, width=8, crop_pct=0.875, resample="area-cubic")

NORMAL = Normalization(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def make(labels: tuple[str, ...] = ("ant", "bee"), **changes: object) -> ModelSpec:
    return ModelSpec(**{"labels": labels, "resize": RULE, "normalization": NORMAL, "arch": "net", **changes})


names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
