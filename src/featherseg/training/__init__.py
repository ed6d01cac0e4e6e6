"""From a configuration to a run folder: objectives, the loop, and what an epoch leaves behind."""
