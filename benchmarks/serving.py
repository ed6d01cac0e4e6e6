"""Pictures a second and latency over HTTP, beside a server as tutorials write it, in turns in one run.

The tutorial's server (serving_tutorial.py) is FastAPI with ONNX Runtime as it comes, OpenCV for decoding, resizing and
the masks' PNGs, and NumPy's arg max. Both run the same ONNX file; each
server is a process of its own, and so are the clients, which send the same JPEGs on connections that stay open.

    python benchmarks/serving.py street.onnx photos/ --variant "" --variant "--backend openvino net=street_int8.onnx"

Then the load: four times as many clients as keep the queue full send pictures without a pause, and what the server
refuses with 503 they send again after half a second.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featherseg.core.images import list_images, read_image
from featherseg.core.machine import machine_facts

CLIENTS = (1, 8, 64)
PAUSE = 0.5
"""Seconds that a client waits after a 503: less than it is asked to, for the server's sake no favour."""


@dataclass
class Load:
    """What clients saw.

    Args:
        seconds: from the first request to the last answer.
        ms: of each picture that was answered.
        refused: how many were not.
        cpu_seconds: of the server's process, meanwhile. Where other programs want the processor, they say more than
            the clock.
    """

    seconds: float
    cpu_seconds: float = 0.0
    ms: list[float] = field(default_factory=list)
    refused: int = 0

    def to_dict(self) -> dict[str, float]:
        """Return pictures a second and percentiles."""
        return {
            "pictures_per_second": round(len(self.ms) / self.seconds, 1),
            "p50_ms": round(float(np.percentile(self.ms, 50)), 1) if self.ms else float("nan"),
            "p99_ms": round(float(np.percentile(self.ms, 99)), 1) if self.ms else float("nan"),
            "refused": self.refused,
            "cpu_ms_per_picture": round(1000 * self.cpu_seconds / max(len(self.ms), 1), 1),
        }


def tutorial(model: str, port: int, size: tuple[int, int] | None) -> None:
    """Serve as tutorials do, until the process is ended."""
    import serving_tutorial

    serving_tutorial.serve(model, port, size)


def ours(model: str, port: int, size: tuple[int, int] | None, words: tuple[str, ...]) -> None:
    """Serve with the command, until the process is ended."""
    from featherseg.cli.main import main

    chosen = ("--size", f"{size[0]}x{size[1]}") if size else ()
    served = () if any(word.startswith("net=") for word in words) else (f"net={model}",)
    main(["serve", *served, "--port", str(port), "--quiet", *chosen, *words])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(target: Any, *arguments: Any) -> Iterator[tuple[int, int]]:
    """Run a server in a process of its own; yield its port once it answers, and its process's number."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(arguments[0], port, *arguments[1:]))
    process.start()
    try:
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.is_alive(), "the server has ended"
                time.sleep(0.1)
        assert process.pid is not None
        yield port, process.pid
    finally:
        process.terminate()
        process.join()


async def client(port: int, path: str, pictures: list[bytes], offset: int, end: float, load: Load) -> None:
    """Send pictures one after the other on one connection until the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(10**9):
        picture = pictures[(offset + i) % len(pictures)]
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
        began = time.perf_counter()
        if began >= end:
            break
        writer.write(head + picture)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        status = int(answer.split()[1])
        now = time.perf_counter()
        if status == 200:
            load.ms.append(1000 * (now - began))
        else:
            assert status == 503, answer
            load.refused += 1
            await asyncio.sleep(PAUSE)
    writer.close()


def cpu_seconds(process: int) -> float:
    """Return the processor time that a process has taken (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(server: tuple[int, int], path: str, pictures: list[bytes], clients: int, seconds: float) -> Load:
    """Return what so many clients see that begin requests for so many seconds; all that began are counted."""
    load = Load(seconds)

    port, process = server

    async def all_of_them() -> None:
        began = time.perf_counter()
        await asyncio.gather(*(client(port, path, pictures, 7 * i, began + seconds, load) for i in range(clients)))
        load.seconds = time.perf_counter() - began

    before = cpu_seconds(process)
    asyncio.run(all_of_them())
    load.cpu_seconds = cpu_seconds(process) - before
    return load


def merged(loads: list[Load]) -> Load:
    """Return several measurements as one."""
    whole = Load(
        sum(x.seconds for x in loads), sum(x.cpu_seconds for x in loads), refused=sum(x.refused for x in loads)
    )
    whole.ms = [ms for x in loads for ms in x.ms]
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path, help="folder of pictures; they are sent as JPEGs")
    parser.add_argument("--picture-size", help="HxW that pictures are resized to before they are sent")
    parser.add_argument("--size", help="HxW for the network, in both servers")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns")
    parser.add_argument("--clients", type=int, nargs="*", default=CLIENTS)
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        help="further words for featherseg serve; net=FILE serves another file, such as the int8 one",
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    size = tuple(int(side) for side in given.size.split("x")) if given.size else None
    pictures = []
    for path in list_images(given.pictures)[:32]:
        image = Image.fromarray(read_image(path))
        if given.picture_size:
            height, width = (int(side) for side in given.picture_size.split("x"))
            image = image.resize((width, height))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90)
        pictures.append(stream.getvalue())
    servers: dict[str, tuple[Any, ...]] = {"tutorial": (tutorial, str(given.model), size)}
    for words in [*given.variant] or [""]:
        servers[f"featherseg {words}".strip()] = (ours, str(given.model), size, tuple(words.split()))
    results: dict[str, dict[str, Any]] = {name: {} for name in servers}
    waiting = 64
    for name, server in servers.items():
        if server[0] is ours:  # every client of the comparison has a place
            servers[name] = (*server[:3], (*server[3], "--waiting", str(waiting)))
    found: dict[tuple[str, int], list[Load]] = {}
    for _ in range(given.rounds):
        for name, server in servers.items():
            path = "/segment" if server[0] is tutorial else "/v1/segment/net"
            with started(*server) as running:
                measured(running, path, pictures, 4, 1.0)
                for clients in given.clients:
                    found.setdefault((name, clients), []).append(
                        measured(running, path, pictures, clients, given.seconds)
                    )
    for (name, clients), loads in found.items():
        results[name][f"{clients} clients"] = merged(loads).to_dict()
        results[name][f"{clients} clients"]["by_round"] = [x.to_dict()["pictures_per_second"] for x in loads]
    for name, server in servers.items():
        if server[0] is ours:
            words = (*server[3][:-2], "--waiting", "16")
            workers = len(os.sched_getaffinity(0))
            with started(*server[:3], words) as running:
                full = measured(running, "/v1/segment/net", pictures, 16 + workers, given.seconds)
                over = measured(running, "/v1/segment/net", pictures, 4 * (16 + workers), given.seconds)
            results[name]["queue full"] = full.to_dict()
            results[name]["four times as much"] = over.to_dict()
    facts = {"machine": machine_facts(), "pictures": len(pictures), "bytes": statistics.mean(map(len, pictures))}
    if given.json:
        json.dump({**facts, "results": results}, sys.stdout, indent=1)
        return
    print(f"{facts}\n")
    for name, rows in results.items():
        for what, row in rows.items():
            against = results["tutorial"].get(what, {}).get("pictures_per_second")
            times = f"  {row['pictures_per_second'] / against:.2f} times the tutorial's" if against else ""
            print(f"{name:40s} {what:20s} {row}{times}")


if __name__ == "__main__":
    main()
