"""Drawing results on frames: text in any script, bars, fonts."""
