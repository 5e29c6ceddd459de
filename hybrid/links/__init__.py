"""Open pipes to clients, one kind a file."""
