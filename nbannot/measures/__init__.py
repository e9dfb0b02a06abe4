"""All numbers that people print: pure functions on plain data, each number with its interval and its reason."""
