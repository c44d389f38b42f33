"""What produced a weight, as far as its values can tell."""
