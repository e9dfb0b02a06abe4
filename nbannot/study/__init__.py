"""What is studied: the codebook, the texts and people's labels, the settings."""
