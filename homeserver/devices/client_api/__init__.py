"""Endpoints about encryption, a module for each matter."""
