"""Pictures by the million: the same work spread over processes and machines, with Ray. No torch is imported."""
