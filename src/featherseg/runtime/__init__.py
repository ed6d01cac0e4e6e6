"""What an edge box needs: read an exported file, run it, make masks of it. No torch."""
