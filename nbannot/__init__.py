"""nbannot: annotate texts with language models against your own codebook, and learn how far to trust the labels."""

__version__ = "0.1.0"
