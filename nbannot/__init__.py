"""nbannot: annotate texts with language models against your own codebook, and learn how far the labels can be trusted."""

__version__ = "0.1.0"
