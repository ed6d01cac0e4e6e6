"""featherseg: from a folder of images and masks to a small, proven segmentation file.

Public names are found when they are first used: importing this package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import load_checkpoint as load_checkpoint
    from .config import Config as Config
    from .config import load_config as load_config
    from .data.datasets import create_dataset as create_dataset
    from .data.datasets import list_datasets as list_datasets
    from .errors import FeathersegError as FeathersegError
    from .evaluation import evaluate as evaluate
    from .export.verify import export_verified as export_verified
    from .export.verify import verify as verify
    from .facades import ModelOptimizer as ModelOptimizer
    from .facades import RealtimeSegmentation as RealtimeSegmentation
    from .facades import SegmentationTrainer as SegmentationTrainer
    from .facades import TensorRTOptimizer as TensorRTOptimizer
    from .facades import visualize_results as visualize_results
    from .inference import open_segmenter as open_segmenter
    from .losses import OHEMLoss as OHEMLoss
    from .models.base import count_parameters as count_parameters
    from .models.base import create_model as create_model
    from .models.base import list_models as list_models
    from .models.fastsegnet import FastSegNet as FastSegNet
    from .models.jetnet import JetNet as JetNet
    from .models.lednet import LEDNet as LEDNet
    from .models.lednet import return_model as return_model
    from .models.mobilenet_aspp import LightweightSegmentationModel as LightweightSegmentationModel
    from .models.resnet_unet import ResNetUNet as ResNetUNet
    from .runtime.segmenter import Prediction as Prediction
    from .runtime.segmenter import Segmenter as Segmenter
    from .train import fit as fit
    from .types import ClassSet as ClassSet

_HOMES = {
    "Checkpoint": "checkpoint",
    "ClassSet": "types",
    "Config": "config",
    "FastSegNet": "models",
    "FeathersegError": "errors",
    "JetNet": "models",
    "LEDNet": "models",
    "LightweightSegmentationModel": "models",
    "ModelOptimizer": "facades",
    "OHEMLoss": "losses",
    "Prediction": "runtime.segmenter",
    "RealtimeSegmentation": "facades",
    "ResNetUNet": "models",
    "SegmentationTrainer": "facades",
    "Segmenter": "runtime.segmenter",
    "TensorRTOptimizer": "facades",
    "count_parameters": "models",
    "create_dataset": "data",
    "create_model": "models",
    "evaluate": "evaluation",
    "export_verified": "export.verify",
    "fit": "train",
    "list_datasets": "data",
    "list_models": "models",
    "load_checkpoint": "checkpoint",
    "load_config": "config",
    "open_segmenter": "inference",
    "return_model": "models",
    "verify": "export.verify",
    "visualize_results": "facades",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'featherseg' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
