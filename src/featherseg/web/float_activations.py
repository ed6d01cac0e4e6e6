"""Int8 files as a browser computes them best: weights stay in 8 bits, what flows between layers is in floats.

WebAssembly has no instructions for 8-bit products as processors have: int8 takes longer there than floats between the
same weights (``benchmarks/web.py`` with and without ``--as-int8``; docs/tutorials/web.md). And an int8 file's mask
depends on the engine: where two engines round a few sums to other sides, later layers make a percent of the pixels of
them, so that a golden mask would prove nothing. In floats, engines agree.
"""

from __future__ import annotations

from pathlib import Path

from ..core.errors import require

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def write_float_activations(source: Path, target: Path) -> bool:
    """Write an .onnx file again without the rounding between its layers; what it says of itself stays.

    Args:
        source: an exported file.
        target: file to write, if there is such rounding.

    Returns:
        whether there is, and `target` was written.

    Raises:
        MissingExtraError: the package ``onnx`` is not installed.
    """
    onnx = require("onnx", "web", "A page of an int8 file")
    model = onnx.load(str(source))
    nodes = model.graph.node
    rounded = {node.output[0]: node.input[0] for node in nodes if node.op_type == QUANTIZE}
    same = {
        node.output[0]: rounded[node.input[0]]
        for node in nodes
        if node.op_type == DEQUANTIZE and node.input[0] in rounded
    }
    if not same:
        return False
    kept = [node for node in nodes if node.output[0] not in same]
    for node in kept:
        for place, name in enumerate(node.input):
            while name in same:
                name = same[name]
            node.input[place] = name
    read = {name for node in kept for name in node.input}
    kept = [node for node in kept if node.op_type != QUANTIZE or node.output[0] in read]
    read = {name for node in kept for name in node.input}
    constants = [each for each in model.graph.initializer if each.name in read]
    for field, values in ((nodes, kept), (model.graph.initializer, constants), (model.graph.value_info, [])):
        del field[:]
        field.extend(values)
    onnx.save(model, str(target))
    return True
