"""Projects of other coding tools, read to a task with its coders and written for a second look there."""
