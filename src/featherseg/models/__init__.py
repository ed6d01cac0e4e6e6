"""The networks: one family a file, each registered with its declared facts."""

from . import fastsegnet
from .base import (
    ModelFacts,
    SegmentationModel,
    count_parameters,
    create_model,
    list_models,
    model_facts,
    models,
    register_model,
    resize_like,
)

__all__ = [
    "ModelFacts",
    "SegmentationModel",
    "count_parameters",
    "create_model",
    "fastsegnet",
    "list_models",
    "model_facts",
    "models",
    "register_model",
    "resize_like",
]
