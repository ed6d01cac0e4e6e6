"""A page that runs a network in the browser and proves it there first; its own files are in ``site``. Needs no torch."""
