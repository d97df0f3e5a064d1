"""Queries on the tables of accounts, a module for each."""
