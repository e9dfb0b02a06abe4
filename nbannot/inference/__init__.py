"""From labels to findings: may the model stand in for a coder, how many texts are what, does the finding hold?"""

from nbannot.inference.alternative_annotator import AltTest, alt_test

__all__ = ["AltTest", "alt_test"]
