"""Trained networks as files that need nothing beside them, each proven before it is kept."""
