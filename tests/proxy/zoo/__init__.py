"""A zoo of proxies: what real networks do to a page's connections, on one machine."""
