"""State resolution: version 1, version 2 and 2.1."""
