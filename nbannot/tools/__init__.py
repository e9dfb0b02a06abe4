"""Small tools that know nothing of texts and models: files, imports, frames, JSON."""
