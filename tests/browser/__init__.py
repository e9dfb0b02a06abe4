"""The browser tests; a package, so that their conftest does not hide the one above."""
