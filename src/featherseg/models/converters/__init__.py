"""What turns weights that others published into ours: names and shapes, one family per file."""
