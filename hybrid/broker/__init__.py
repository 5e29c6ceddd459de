"""Logs and live delivery between processes."""
