"""What anything looks like: blocks, digits, HTML and its twin in plain text. Knows no study."""
