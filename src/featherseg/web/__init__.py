"""A page that runs a network in the browser, and proves it there first; its files are in ``site``. No torch here."""
