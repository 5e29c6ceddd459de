"""Where the pure core meets the world."""
