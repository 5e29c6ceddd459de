"""Shapes of load that the one-channel bench does not have: `make bench-shapes`."""
