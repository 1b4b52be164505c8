"""A folder of images loaded into the cache, beside a plain loop of Pillow: images a second, memory.

    python -m benchmarks folder
    python -m benchmarks folder --images 1000 --size 1024 --kind jpg

The images are noise, smoothed, in 100 classes; writing them is not counted. The loop opens each
file, converts it to RGB and, where it is larger than 256 pixels, resizes it to 224 as `load` does.
It keeps no image; `load` also writes all of them into a cache, which is empty each time.
"""

import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from benchmarks.memory import peak_within
from leepjax.data import load
from leepjax.data.images import LARGEST, SIZE

CLASSES = 100


@dataclasses.dataclass(frozen=True)
class Config:
    """Load a folder of images, and loop over it."""

    images: int = 50_000
    """How many."""
    size: int = 32
    """Their height and width, in pixels."""
    kind: Literal["png", "jpg"] = "png"
    """How they are written."""
    repeats: int = 3
    """Loads and loops, in turn; medians are shown."""


def write(folder: Path, config: Config) -> None:
    """The images, each another."""
    rng = np.random.default_rng(0)
    for i in range(config.images):
        path = folder / f"class{i % CLASSES}" / f"{i}.{config.kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        noise.resize((config.size, config.size), Image.Resampling.BICUBIC).save(path)


def loop(folder: Path) -> int:
    """Decode each image of a folder."""
    total = 0
    for path in folder.glob("*/*"):
        with Image.open(path) as image:
            image = image.convert("RGB")
            if max(image.size) > LARGEST:
                image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.BICUBIC)
            total += np.asarray(image).size
    return total


def main(config: Config) -> None:
    """Write the images, load them and loop over them, and print what it took."""
    for name in ("size", "repeats"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name}: wanted at least 1, got {getattr(config, name)}")
    if config.images < 2 * CLASSES:
        raise ValueError(f"--images: wanted at least {2 * CLASSES}, got {config.images}")
    loads, loops, peaks, cpu = [], [], [], np.zeros(2)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "images"
        write(folder, config)
        for repeat in range(config.repeats):
            os.environ["LEEPJAX_CACHE"] = f"{root}/cache{repeat}"
            start, used = time.perf_counter(), time.process_time()
            with peak_within() as growth:
                dataset = load(str(folder))
            loads.append(config.images / (time.perf_counter() - start))
            cpu[0] += time.process_time() - used
            peaks.append(growth() / 2**20)
            start, used = time.perf_counter(), time.process_time()
            loop(folder)
            loops.append(config.images / (time.perf_counter() - start))
            cpu[1] += time.process_time() - used
        start = time.perf_counter()
        dataset = load(str(folder))
        again = time.perf_counter() - start
        size = sum(bank.images.nbytes for bank in dataset) / 2**20
    print(
        f"{config.images} images of {config.size} x {config.size} pixels, {config.kind}: "
        f"{statistics.median(loads):.0f} a second; a plain loop {statistics.median(loops):.0f}; "
        f"ratio {statistics.median(loads) / statistics.median(loops):.2f}"
    )
    print(f"CPU: {cpu[0] / cpu[1]:.2f} times the loop's")
    print(
        f"decoded {size:.0f} MiB; peak of memory {max(peaks):.0f} MiB above before; "
        f"from the cache in {again:.1f} s"
    )
