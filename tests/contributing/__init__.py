"""Additions made as a newcomer makes them: in a copy of the package, in the files that the guide names."""
