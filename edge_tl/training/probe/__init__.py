"""The probe: a new head on features of the frozen backbone."""
