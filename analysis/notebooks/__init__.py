"""Notebooks that show what the sections say, with the outputs of one search in them."""
