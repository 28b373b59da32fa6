"""Measuring robustness, and reporting it."""
