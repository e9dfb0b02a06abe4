"""From labels to findings: may the model stand in for a coder, how many texts are what, does the finding hold?"""
