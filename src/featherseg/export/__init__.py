"""From a trained network to a proven file: :mod:`.onnx` writes it, :mod:`.verify` runs and compares it."""
