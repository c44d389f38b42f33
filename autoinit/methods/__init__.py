"""Methods: how the standard deviations of a plan are found. To add one, add a file here and its row in `table`."""
