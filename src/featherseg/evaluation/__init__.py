"""How good and how fast: scores, timings, profiles, and pictures of both."""
