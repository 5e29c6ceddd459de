"""The only place that knows Quart and Hypercorn."""
