"""Simulated event streams, the same for the same seed."""
