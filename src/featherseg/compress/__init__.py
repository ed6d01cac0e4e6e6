"""Smaller and faster: pruning, int8 and half precision."""
