"""Fast-SCNN for Cityscapes, of zh320/realtime-semantic-segmentation-pytorch (Apache 2.0)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .renaming import renamed, without_bias, without_norm

RULES = (
    (r"^learning_to_downsample\.([01])\.", r"down4.\1."),
    (r"^learning_to_downsample\.2\.", "down8."),
    (r"^global_feature_extractor\.bottlenecks\.([012])\.", r"stage16.\1."),
    (r"^global_feature_extractor\.bottlenecks\.3\.", "stage32.0."),
    (r"^global_feature_extractor\.bottlenecks\.4\.", "stage32.1."),
    (r"^global_feature_extractor\.bottlenecks\.5\.", "stage32.2."),
    (r"^global_feature_extractor\.bottlenecks\.6\.", "stage32.3."),
    (r"^global_feature_extractor\.bottlenecks\.7\.", "stage32.4."),
    (r"^global_feature_extractor\.ppm\.stage1\.1\.", "pyramid.reduce.0."),
    (r"^global_feature_extractor\.ppm\.stage2\.1\.", "pyramid.reduce.1."),
    (r"^global_feature_extractor\.ppm\.stage3\.1\.", "pyramid.reduce.2."),
    (r"^global_feature_extractor\.ppm\.stage4\.1\.", "pyramid.reduce.3."),
    (r"^global_feature_extractor\.ppm\.conv\.", "pyramid.project."),
    (r"^feature_fusion\.higher_res_conv\.", "fine."),
    (r"^feature_fusion\.lower_res_conv\.", "coarse."),
    (r"^feature_fusion\.non_linear\.", "fused."),
    (r"^classifier\.([01])\.", r"head.\1."),
    (r"^classifier\.2\.0\.", "classifier."),
    (r"^classifier\.2\.1\.", "classifier_norm."),
)
"""Names of `models/fastscnn.py`, and ours but for what :func:`convert` takes in."""


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published tensors under our names.

    Biases before batch norms go into their means, and the batch norm of the class scores into their convolution. The
    published network clamps these scores at zero, which leaves the class of each pixel that has a positive one.
    """
    ours = without_norm(renamed(weights, RULES), "classifier", "classifier_norm")
    for name in list(ours):
        if name.endswith(".0.bias") and f"{name[: -len('0.bias')]}1.running_mean" in ours:
            unit = name[: -len(".0.bias")]
            ours = without_bias(ours, f"{unit}.0", f"{unit}.1")
    return ours
