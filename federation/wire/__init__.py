"""The wire: discovery, signed HTTP and calls; the only I/O in `federation`."""
