"""What shipping a network found: figures, worst images, and the page that shows them. No torch."""

from .figures import ShippedFile, ShipReport, Step, WorstImage, latency_table
from .page import read_report, write_report
from .rows import file_rows, step_rows
from .worst import worst_images

__all__ = [
    "ShipReport",
    "ShippedFile",
    "Step",
    "WorstImage",
    "file_rows",
    "latency_table",
    "read_report",
    "step_rows",
    "worst_images",
    "write_report",
]
