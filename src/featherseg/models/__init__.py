"""The networks: one family a file, each registered with its declared facts."""

from .base import (
    ModelFacts,
    SegmentationModel,
    count_gmacs,
    count_parameters,
    create_model,
    list_models,
    model_facts,
    models,
    register_model,
    resize_like,
)
from .fastsegnet import FastSegNet
from .jetnet import JetNet
from .lednet import LEDNet, return_model
from .mobilenet_aspp import LightweightSegmentationModel
from .resnet_unet import ResNetUNet

__all__ = [
    "FastSegNet",
    "JetNet",
    "LEDNet",
    "LightweightSegmentationModel",
    "ModelFacts",
    "ResNetUNet",
    "SegmentationModel",
    "count_gmacs",
    "count_parameters",
    "create_model",
    "list_models",
    "model_facts",
    "models",
    "register_model",
    "resize_like",
    "return_model",
]
