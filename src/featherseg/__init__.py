"""featherseg: from a folder of images and masks to a small, proven segmentation file.

Public names are found when they are first used: importing this package imports no torch.
"""

import logging
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compress.prune import prune as prune
    from .compress.quantize import QuantizeConfig as QuantizeConfig
    from .compress.quantize import quantize as quantize
    from .core.config import Config as Config
    from .core.config import ShipConfig as ShipConfig
    from .core.errors import FeathersegError as FeathersegError
    from .core.progress import show_progress as show_progress
    from .core.recipes import load_config as load_config
    from .core.types import ClassSet as ClassSet
    from .data.datasets import create_dataset as create_dataset
    from .data.datasets import list_datasets as list_datasets
    from .data.datasets import register_dataset as register_dataset
    from .evaluation.opening import open_segmenter as open_segmenter
    from .evaluation.scores import evaluate as evaluate
    from .exporting.targets import export as export
    from .exporting.verify import export_verified as export_verified
    from .exporting.verify import verify as verify
    from .facades import ModelOptimizer as ModelOptimizer
    from .facades import RealtimeSegmentation as RealtimeSegmentation
    from .facades import SegmentationTrainer as SegmentationTrainer
    from .facades import TensorRTOptimizer as TensorRTOptimizer
    from .facades import visualize_results as visualize_results
    from .labelling.label import label as label
    from .models.base import SegmentationModel as SegmentationModel
    from .models.checkpoint import Checkpoint as Checkpoint
    from .models.checkpoint import load_checkpoint as load_checkpoint
    from .models.factory import create_model as create_model
    from .models.factory import list_models as list_models
    from .models.factory import register_model as register_model
    from .models.facts import ModelFacts as ModelFacts
    from .models.facts import count_parameters as count_parameters
    from .models.families.fastsegnet import FastSegNet as FastSegNet
    from .models.families.jetnet import JetNet as JetNet
    from .models.families.lednet import LEDNet as LEDNet
    from .models.families.lednet import return_model as return_model
    from .models.families.mobilenet_aspp import LightweightSegmentationModel as LightweightSegmentationModel
    from .models.families.resnet_unet import ResNetUNet as ResNetUNet
    from .models.foreign import wrap as wrap
    from .runtime.predict import predict as predict
    from .runtime.prediction import Prediction as Prediction
    from .runtime.segmenter import Segmenter as Segmenter
    from .runtime.video.pipeline import segment_video as segment_video
    from .shipping.pipeline import ship as ship
    from .training.fit import fit as fit
    from .training.fit import resume_run as resume_run
    from .training.losses import BoundaryLoss as BoundaryLoss
    from .training.losses import CrossEntropyLoss as CrossEntropyLoss
    from .training.losses import DiceLoss as DiceLoss
    from .training.losses import FocalLoss as FocalLoss
    from .training.losses import OHEMLoss as OHEMLoss
    from .training.losses import register_loss as register_loss
    from .web.page import write_page as write_page

_HOMES = {
    "BoundaryLoss": "training.losses",
    "Checkpoint": "models.checkpoint",
    "ClassSet": "core.types",
    "Config": "core.config",
    "CrossEntropyLoss": "training.losses",
    "DiceLoss": "training.losses",
    "FastSegNet": "models.families.fastsegnet",
    "FeathersegError": "core.errors",
    "FocalLoss": "training.losses",
    "JetNet": "models.families.jetnet",
    "LEDNet": "models.families.lednet",
    "LightweightSegmentationModel": "models.families.mobilenet_aspp",
    "ModelFacts": "models.facts",
    "ModelOptimizer": "facades",
    "OHEMLoss": "training.losses",
    "Prediction": "runtime.prediction",
    "QuantizeConfig": "compress.quantize",
    "RealtimeSegmentation": "facades",
    "ResNetUNet": "models.families.resnet_unet",
    "SegmentationModel": "models.base",
    "SegmentationTrainer": "facades",
    "Segmenter": "runtime.segmenter",
    "ShipConfig": "core.config",
    "TensorRTOptimizer": "facades",
    "count_parameters": "models.facts",
    "create_dataset": "data.datasets",
    "create_model": "models.factory",
    "evaluate": "evaluation.scores",
    "export": "exporting.targets",
    "export_verified": "exporting.verify",
    "fit": "training.fit",
    "label": "labelling.label",
    "list_datasets": "data.datasets",
    "list_models": "models.factory",
    "load_checkpoint": "models.checkpoint",
    "load_config": "core.recipes",
    "open_segmenter": "evaluation.opening",
    "predict": "runtime.predict",
    "prune": "compress.prune",
    "quantize": "compress.quantize",
    "register_dataset": "data.datasets",
    "register_loss": "training.losses",
    "register_model": "models.factory",
    "resume_run": "training.fit",
    "return_model": "models.families.lednet",
    "segment_video": "runtime.video.pipeline",
    "ship": "shipping.pipeline",
    "show_progress": "core.progress",
    "verify": "exporting.verify",
    "visualize_results": "facades",
    "wrap": "models.foreign",
    "write_page": "web.page",
}

__all__ = sorted(_HOMES)

# A library leaves it to the program what becomes of its notes; without this, Python prints warnings by itself.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'featherseg' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
