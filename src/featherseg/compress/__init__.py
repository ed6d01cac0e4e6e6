"""Smaller files from trained networks: :mod:`.quantize` stores weights in eight bits."""
