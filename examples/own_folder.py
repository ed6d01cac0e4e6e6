"""From a folder of images and masks to a verified ONNX file, in Python.

Run it as it is: it first writes a small folder of generated streets, then treats it like anybody's photographs.
"""

import sys
from pathlib import Path

import featherseg
from featherseg.core.images import read_image, write_image
from featherseg.data.readers.synthetic import write_street


def main(out: Path, images: int = 64, epochs: int = 4) -> None:
    folder = write_street(out / "streets", train=images, val=max(images // 4, 2))

    run = featherseg.fit(
        featherseg.load_config(
            overrides=[
                f"data.root={folder}",
                f"out={out}",
                "model.name=fastsegnet",
                "augment.crop=[192, 384]",
                f"train.epochs={epochs}",
            ]
        )
    )
    print(run)

    checkpoint = featherseg.load_checkpoint(run.path)
    val_set = featherseg.create_dataset("folder", folder, "val")
    file = out / "street.onnx"
    print(featherseg.export_verified(checkpoint, file, val_set))

    segmenter = featherseg.Segmenter(file)  # from here on no torch is needed
    prediction = segmenter(read_image(next((folder / "images" / "val").iterdir())))
    print(prediction.coverage())
    write_image(out / "overlay.png", prediction.overlay())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
