"""From a trained network to proven files: :mod:`.onnx` writes one, :mod:`.targets` others, :mod:`.verify` compares."""
