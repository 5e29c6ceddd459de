"""Measures hybrid against a textbook Quart server, both in one run: `make bench`. Never part of the tests."""
