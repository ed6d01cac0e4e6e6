"""Kinds of datasets, one a file; each registers itself, and a file put here is found by its registry."""
