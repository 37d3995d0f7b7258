"""The functions that a program or a notebook calls; the commands call them too. `edge_tl` offers their names."""

__all__ = [
    "adopting", "attacking", "benching", "checking", "comparing", "dreaming", "evaluating", "model", "packing",
    "pixels", "reporter", "results", "runs", "settings", "show", "train_extra", "tuning",
]  # fmt: skip
