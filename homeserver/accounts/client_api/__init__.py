"""Endpoints about the user's own account, a module for each matter."""
