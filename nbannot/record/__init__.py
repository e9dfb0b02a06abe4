"""What is kept of a run: its folder, its labels, its scores, the tidy tables."""
