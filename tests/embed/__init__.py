"""hybrid inside of applications."""
