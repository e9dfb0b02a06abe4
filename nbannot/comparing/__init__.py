"""Runs and people on the same texts: differences, agreement, stability, older runs scored again."""
