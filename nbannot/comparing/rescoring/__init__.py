"""Older folders scored again, each difference proven."""
