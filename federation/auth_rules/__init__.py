"""The authorization rules of every room version."""
