"""Masks with onnxruntime and numpy: python run.py FILE.onnx IMAGE MASK.png (Pillow opens these), or run.py --check."""

import hashlib
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def segment(session: Any, rgb: Any) -> Any:  # uint8 (H, W, 3), at least 64 pixels a side, to class ids (H, W)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["featherseg"])
    seen = resized(rgb, facts["input_spec"].get("long_side") or max(rgb.shape))
    maps = session.run(["logits"], {"image": seen[None]})[0][0]  # float32 (C, h, w); normalisation is inside the file
    for size in (rgb.shape[1], rgb.shape[0]):  # bilinear with half-pixel centres: first the rows, then the columns
        place = np.maximum((np.arange(size, dtype=np.float32) + 0.5) * (np.float32(maps.shape[2]) / size) - 0.5, 0)
        left = np.minimum(place.astype(int), maps.shape[2] - 1)
        right, share = np.minimum(left + 1, maps.shape[2] - 1), place - left.astype(np.float32)
        maps = (maps[..., left] * (1 - share) + maps[..., right] * share).swapaxes(1, 2)
    return maps.argmax(0).astype(np.uint8)


def resized(rgb: Any, side: int) -> Any:  # to a long side, bilinearly, or to less by the mean of what a pixel covers
    share, pixels = side / max(rgb.shape[:2]), rgb.astype(np.float32)
    for _ in ("rows", "columns"):
        old = np.arange(len(pixels), dtype=np.float32)
        new = np.arange(max(round(len(old) * share), 1), dtype=np.float32)[:, None]
        step = np.float32(len(old) / len(new))
        covered = np.minimum((new + 1) * step, old + 1) - np.maximum(new * step, old)
        near = 1 - abs(np.clip((new + 0.5) * step - 0.5, 0, len(old) - 1) - old)
        pixels = np.tensordot(np.maximum(covered / step if share < 1 else near, 0), pixels, 1).swapaxes(0, 1)
    return np.rint(pixels).astype(np.uint8)


def golden(path: Path) -> Any:  # reads golden*.png and no other PNG: one chunk of pixels, their rows not filtered
    data = path.read_bytes()
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    rows = np.frombuffer(zlib.decompressobj().decompress(data[data.index(b"IDAT") + 4 :]), np.uint8)
    return rows.reshape(height, -1)[:, 1:].reshape(height, width, -1)


def check(folder: Path) -> None:
    for digest, name in map(str.split, (folder / "SHA256SUMS").read_text().splitlines()):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            sys.exit(f"failed: {name} is not as it was shipped")
    model = folder / json.loads((folder / "labels.json").read_text())["model"]
    ids = segment(onnxruntime.InferenceSession(model), golden(folder / "golden.png"))
    same = (ids == golden(folder / "golden_mask.png")[..., 0]).mean()
    print(f"{model.name}: {same:.4%} of the golden mask's pixels")
    sys.exit(0 if same >= 0.999 else "failed: at least 99.9 % must be the same")


def main(file: str, image: str, mask: str) -> None:
    from PIL import Image

    session = onnxruntime.InferenceSession(file)
    picture = Image.fromarray(segment(session, np.asarray(Image.open(image).convert("RGB"))))
    classes = json.loads(session.get_modelmeta().custom_metadata_map["featherseg"])["classes"]
    picture.putpalette([part for color in classes["colors"] for part in color])
    picture.save(mask)


if __name__ == "__main__":
    check(Path(__file__).parent) if sys.argv[1:] == ["--check"] else main(*sys.argv[1:])
