"""The ways in: magics, form, command line; each parses and calls."""
