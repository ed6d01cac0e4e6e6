"""Sessions: what runs an exported file. uint8 images in, float32 logits out, whatever engine is inside."""

from .base import (
    Session,
    artifact_suffixes,
    available_threads,
    checked_threads,
    cpu_name,
    open_session,
    sessions,
)
from .onnx import OnnxSession
from .openvino import OpenVinoSession
from .program import ProgramSession
from .tensorrt import TensorRTSession

__all__ = [
    "OnnxSession",
    "OpenVinoSession",
    "ProgramSession",
    "Session",
    "TensorRTSession",
    "artifact_suffixes",
    "available_threads",
    "checked_threads",
    "cpu_name",
    "open_session",
    "sessions",
]
