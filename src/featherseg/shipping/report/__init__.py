"""What shipping a network found: figures, worst images, and the page that shows them. No torch."""
