"""hybrid beside the systems that its users would take instead."""
