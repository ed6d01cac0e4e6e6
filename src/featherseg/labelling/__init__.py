"""From images without labels to masks, an order to label in, and files for the programs that people label with."""
