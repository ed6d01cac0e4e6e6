"""Where a network's time goes, layer by layer, and how far each layer is from what the machine can do."""
