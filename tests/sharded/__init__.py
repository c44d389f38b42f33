"""Models that are parted among processes: planned, written and told as those of one process are."""
