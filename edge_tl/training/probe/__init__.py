"""The probe: a new head on features of the frozen backbone."""

__all__ = ["balance", "cross_validation", "features", "probe"]
