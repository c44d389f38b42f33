"""Forms of a `Scaling` and of a coordinate check."""
