"""The networks: what each is, how it is built, counted, saved and run."""
