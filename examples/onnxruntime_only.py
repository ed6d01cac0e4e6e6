"""Run an exported file with onnxruntime, numpy and Pillow: python onnxruntime_only.py FILE.onnx IMAGE MASK.png."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(file: str, image: str, mask: str) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["featherseg"])
    rgb = np.asarray(Image.open(image).convert("RGB"))  # uint8 (H, W, 3): normalisation is inside the file
    logits = session.run(None, {"image": rgb[None]})[0][0]  # float32 (C, h, w), at the network's stride
    # Bilinear upsampling of each class's map to the image's size, then the best class of each pixel.
    size = (rgb.shape[1], rgb.shape[0])
    maps = [np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BILINEAR)) for channel in logits]
    ids = np.argmax(maps, axis=0).astype(np.uint8)
    for i, name in enumerate(about["classes"]["names"]):
        print(f"{name:12} {(ids == i).mean():6.1%}")
    picture = Image.fromarray(ids)
    picture.putpalette([value for color in about["classes"]["colors"] for value in color])
    picture.save(mask)


if __name__ == "__main__":
    main(*sys.argv[1:])
