"""The tables of devices' keys and messages, a module for each matter."""
