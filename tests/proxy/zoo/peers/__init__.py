"""Other systems' newest clients and servers behind the same proxies, for an honest comparison: `make zoo-peers`."""
