"""Where a network's time goes, layer by layer, and how far each layer is from what the machine can do."""

from .layers import LayerTime, ProfileResult, profile
from .peaks import Peaks, measure_peaks

__all__ = ["LayerTime", "Peaks", "ProfileResult", "measure_peaks", "profile"]
