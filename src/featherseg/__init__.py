"""featherseg: from a folder of images and masks to a small, proven segmentation file.

Public names are found when they are first used: importing this package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.config import Config as Config
    from .core.config import load_config as load_config
    from .core.errors import FeathersegError as FeathersegError
    from .core.types import ClassSet as ClassSet
    from .data.datasets import create_dataset as create_dataset
    from .data.datasets import list_datasets as list_datasets
    from .evaluation.opening import open_segmenter as open_segmenter
    from .evaluation.scores import evaluate as evaluate
    from .exporting.verify import export_verified as export_verified
    from .exporting.verify import verify as verify
    from .facades import ModelOptimizer as ModelOptimizer
    from .facades import RealtimeSegmentation as RealtimeSegmentation
    from .facades import SegmentationTrainer as SegmentationTrainer
    from .facades import TensorRTOptimizer as TensorRTOptimizer
    from .facades import visualize_results as visualize_results
    from .models.checkpoint import Checkpoint as Checkpoint
    from .models.checkpoint import load_checkpoint as load_checkpoint
    from .models.factory import create_model as create_model
    from .models.factory import list_models as list_models
    from .models.facts import count_parameters as count_parameters
    from .models.families.fastsegnet import FastSegNet as FastSegNet
    from .models.families.jetnet import JetNet as JetNet
    from .models.families.lednet import LEDNet as LEDNet
    from .models.families.lednet import return_model as return_model
    from .models.families.mobilenet_aspp import LightweightSegmentationModel as LightweightSegmentationModel
    from .models.families.resnet_unet import ResNetUNet as ResNetUNet
    from .runtime.segmenter import Prediction as Prediction
    from .runtime.segmenter import Segmenter as Segmenter
    from .training.fit import fit as fit
    from .training.losses import OHEMLoss as OHEMLoss

_HOMES = {
    "Checkpoint": "models.checkpoint",
    "ClassSet": "core.types",
    "Config": "core.config",
    "FastSegNet": "models.families.fastsegnet",
    "FeathersegError": "core.errors",
    "JetNet": "models.families.jetnet",
    "LEDNet": "models.families.lednet",
    "LightweightSegmentationModel": "models.families.mobilenet_aspp",
    "ModelOptimizer": "facades",
    "OHEMLoss": "training.losses",
    "Prediction": "runtime.segmenter",
    "RealtimeSegmentation": "facades",
    "ResNetUNet": "models.families.resnet_unet",
    "SegmentationTrainer": "facades",
    "Segmenter": "runtime.segmenter",
    "TensorRTOptimizer": "facades",
    "count_parameters": "models.facts",
    "create_dataset": "data.datasets",
    "create_model": "models.factory",
    "evaluate": "evaluation.scores",
    "export_verified": "exporting.verify",
    "fit": "training.fit",
    "list_datasets": "data.datasets",
    "list_models": "models.factory",
    "load_checkpoint": "models.checkpoint",
    "load_config": "core.config",
    "open_segmenter": "evaluation.opening",
    "return_model": "models.families.lednet",
    "verify": "exporting.verify",
    "visualize_results": "facades",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'featherseg' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
