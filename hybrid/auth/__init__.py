"""OAuth at the edge; everything inside sees only a Principal."""
