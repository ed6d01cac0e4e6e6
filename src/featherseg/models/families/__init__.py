"""The networks themselves, one family per file; each registers itself with its declared facts."""
