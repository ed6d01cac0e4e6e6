"""A segmentation server as tutorials write it; benchmarks/serving.py measures beside it."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool


def serve(model: str, port: int, size: tuple[int, int] | None) -> None:
    """Serve until the process is ended; FastAPI's threads take several requests at once."""
    session = ort.InferenceSession(model)
    app = FastAPI()

    def masked(content: bytes) -> bytes:
        image = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        seen = image if size is None else cv2.resize(image, (size[1], size[0]))
        logits = session.run(["logits"], {"image": seen[None]})[0][0]
        resized = cv2.resize(logits.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_LINEAR)
        mask = resized.argmax(axis=-1).astype(np.uint8)
        return bytes(cv2.imencode(".png", mask)[1])

    @app.post("/segment")
    async def segment(request: Request) -> Response:
        return Response(await run_in_threadpool(masked, await request.body()), media_type="image/png")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)
