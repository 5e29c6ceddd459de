"""The sans-I/O core: no await, no clock, nothing but the standard library and msgspec."""
