"""The doctor: what is wrong with a folder of images and masks, and a clean copy of it. No torch."""

from .examine import Examination, examine, quick_check
from .infer import InferredData, infer_data
from .mend import CleanCopy, make_clean_copy, require_new_folder
from .page import write_page
from .rules import RULES, Finding, Rule
from .words import report_text

__all__ = [
    "RULES",
    "CleanCopy",
    "Examination",
    "Finding",
    "InferredData",
    "Rule",
    "examine",
    "infer_data",
    "make_clean_copy",
    "quick_check",
    "report_text",
    "require_new_folder",
    "write_page",
]
