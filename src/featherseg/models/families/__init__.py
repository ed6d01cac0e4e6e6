"""The networks themselves, one family a file; each registers itself with its declared facts."""
