"""Forms of a comparison of starts."""
