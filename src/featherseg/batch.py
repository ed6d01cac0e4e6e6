"""Many pictures on several processes or machines, with Ray: the names that programs use.

Needs the extra ``ray``: ``pip install "featherseg[ray]"``.
"""

from .scaling.evaluating import evaluate_dataset
from .scaling.segmenting import BatchResult, segment_dataset

__all__ = ["BatchResult", "evaluate_dataset", "segment_dataset"]
