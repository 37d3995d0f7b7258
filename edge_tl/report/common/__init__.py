"""What every page is made of: templates, plots, pairs, documents."""

__all__ = ["documents", "html", "pairs"]
