"""From a run to a folder of proven files with its card, report and example program."""
