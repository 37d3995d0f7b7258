"""Drawing results on frames: text in any script, bars, fonts."""

__all__ = ["fonts", "overlay", "text_layout", "view"]
