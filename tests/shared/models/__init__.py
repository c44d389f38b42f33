"""Small models whose answers are known by hand."""
