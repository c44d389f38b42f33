"""Short trainings of one model from several starts, side by side."""
