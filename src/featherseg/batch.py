"""Many pictures on several processes or machines, with Ray: the names that programs use.

Needs the extra ``ray``: ``pip install "featherseg[ray]"``.
"""

from .scaling.segmenting import BatchResult, segment_dataset

__all__ = ["BatchResult", "segment_dataset"]
