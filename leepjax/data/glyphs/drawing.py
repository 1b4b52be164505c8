"""From a font to images of one character: ink, signed distance, then distorted drawings of it.

All lengths are pixels of the distance field, :data:`FIELD` wide, unless said otherwise; an image
spans the whole field. Every character is first scaled so that the longer side of its ink is
:data:`BOX`: size carries no information, as in Omniglot.
"""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from scipy.special import expit

FACES = tuple(
    f"{family}{style}"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
"""The 12 DejaVu faces inside matplotlib, the plainest first."""

SIZE = 28  # height and width of an image
FIELD = 64  # height and width of a distance field
BOX = 42  # longer side of the undistorted ink: 18 of an image's 28 pixels
EM = 160  # pixels per em that ink is rendered at, before it is scaled to the box
FINE = 2  # ink is rasterised at FINE * FIELD, so that distances are good below a pixel

ROTATION = np.deg2rad(20)  # each range is symmetric: uniform in -x .. x
LOG_SCALE = 0.2
LOG_ASPECT = 0.15
SHEAR = 0.25
SHIFT = 2 * FIELD / SIZE  # 2 image pixels
WAVES = 3  # elastic map: cosines of up to this many half periods across the image
ELASTIC = 0.8  # standard deviation of each cosine's weight
THICKNESS = (-1.0, 1.6)
SOFTNESS = (0.6, 1.6)
CONTRAST = (0.6, 1.0)
NOISE = (0.1, 0.3)  # standard deviation, of the full range


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    """The face at :data:`EM`; BASIC layout, as other layout engines are not everywhere."""
    return ImageFont.truetype(_path(face), EM, layout_engine=ImageFont.Layout.BASIC)


@cache
def _characters(face: str) -> frozenset[int]:
    return frozenset(FT2Font(_path(face)).get_charmap())


def _path(face: str) -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVu{face}.ttf")


def faces_with(char: str) -> tuple[str, ...]:
    """The faces whose character map has ``char``, in the order of :data:`FACES`."""
    return tuple(face for face in FACES if ord(char) in _characters(face))


def glyph(char: str, face: str) -> np.ndarray:
    """Coverage ``[h, w]`` uint8 at :data:`EM`, cropped to its ink; ``[0, 0]`` without any."""
    left, top, right, bottom = map(int, _font(face).getbbox(char))
    canvas = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(canvas).text((-left, -top), char, fill=255, font=_font(face))
    box = canvas.getbbox()
    return np.asarray(canvas.crop(box)) if box else np.zeros((0, 0), np.uint8)


def ink(coverage: np.ndarray) -> np.ndarray:
    """A glyph scaled to :data:`BOX`: ``[h, w]`` float32 in 0..1, the longer side 84."""
    height, width = coverage.shape
    scale = FINE * BOX / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    scaled = Image.fromarray(coverage).resize((w, h), Image.Resampling.BOX)
    return np.asarray(scaled, np.float32) / 255


def centred(ink: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of ``ink [h, w]`` in the middle of 128 x 128 pixels."""
    top, left = ((FINE * FIELD - side) // 2 for side in ink.shape)
    return slice(top, top + ink.shape[0]), slice(left, left + ink.shape[1])


def signed_distance(ink: np.ndarray) -> np.ndarray:
    """Distance to the outline, positive inside: ``[64, 64]`` float32, the ink in the middle.

    A pixel's centre is half a pixel from the boundary between it and a neighbour; coverage
    moves that boundary, so on both sides of it the distance gains ``coverage - 1/2``.
    """
    box, inside = centred(ink), ink >= 0.5
    covered = np.zeros((FINE * FIELD, FINE * FIELD), np.float32)
    covered[box] = ink
    distance = 0.5 - np.asarray(distance_transform_edt(covered < 0.5))
    # For a pixel inside, none outside is nearer than the frame around the ink.
    inner = np.asarray(distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]
    distance[box] = np.where(inside, inner - 0.5, distance[box])
    edge = np.abs(distance) < 1
    distance[edge] = covered[edge] - 0.5
    # Means of 2 x 2: NumPy adds slices faster than it reduces short axes.
    pairs = distance[:, ::FINE] + distance[:, 1::FINE]
    return ((pairs[::FINE] + pairs[1::FINE]) / FINE**3).astype(np.float32)


def fields(char: str, faces: tuple[str, ...]) -> np.ndarray:
    """Distance fields of one character, ``[faces, 64, 64]`` float32."""
    return np.stack([signed_distance(ink(glyph(char, face))) for face in faces])


def draw(fields: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` drawings of one character, its faces in turn: ``[n, 28, 28, 1]`` uint8.

    Bright ink on black. Image ``i`` is drawn from ``fields[i % len(fields)]`` by bilinear lookup
    under an affine and an elastic map, then ``sigmoid((distance + thickness) / softness)`` times
    contrast plus noise.
    """
    y, x = _affine(n, rng) + _elastic(n, rng)
    distance = _lookup(fields, np.arange(n) % len(fields), y, x)
    thickness, softness, contrast, noise = (
        rng.uniform(*limits, (n, 1, 1)).astype(np.float32)
        for limits in (THICKNESS, SOFTNESS, CONTRAST, NOISE)
    )
    clean = contrast * expit((distance + thickness) / softness)
    noisy = clean + noise * rng.standard_normal(clean.shape, np.float32)
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)[..., None]


def _affine(n: int, rng: np.random.Generator) -> np.ndarray:
    """Where in the field each image pixel looks: ``[2 (y, x), n, 28, 28]`` float32.

    The drawing is moved by ``q = R S D p + t`` (rotation, shear, scale and aspect, shift about
    the centre), so the pixel at ``q`` looks at ``p = (R S D)^-1 (q - t)``.
    """

    def uniform(limit: float, *shape: int) -> np.ndarray:
        return rng.uniform(-limit, limit, (n, *shape))

    angle, scale, aspect, shear = map(uniform, (ROTATION, LOG_SCALE, LOG_ASPECT, SHEAR))
    zero, one = np.zeros(n), np.ones(n)
    cos, sin = np.cos(angle), np.sin(angle)
    rotate = np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)
    slant = np.array([[one, zero], [shear, one]]).transpose(2, 0, 1)
    stretch = np.array([[np.exp(scale + aspect), zero], [zero, np.exp(scale - aspect)]])
    inverse = np.linalg.inv(rotate @ slant @ stretch.transpose(2, 0, 1))
    line = ((np.arange(SIZE) + 0.5) / SIZE - 0.5) * FIELD
    pixels = np.stack(np.meshgrid(line, line, indexing="ij")).reshape(2, -1)
    source = inverse @ (pixels - uniform(SHIFT, 2, 1)) + (FIELD - 1) / 2
    return source.transpose(1, 0, 2).reshape(2, n, SIZE, SIZE).astype(np.float32)


def _elastic(n: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth random displacements ``[2, n, 28, 28]`` float32: sums of products of cosines."""
    line = (np.arange(SIZE) + 0.5) / SIZE
    waves = np.cos(np.pi * np.outer(line, np.arange(1, WAVES + 1)))
    weights = rng.normal(0, ELASTIC, (2, n, WAVES, WAVES))
    return (waves @ weights @ waves.T).astype(np.float32)


def _lookup(fields: np.ndarray, face: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear values ``[n, 28, 28]`` of ``fields[face]`` at ``y, x``, clamped to the border."""
    y, x = np.clip(y, 0, FIELD - 1.001), np.clip(x, 0, FIELD - 1.001)
    top, left = y.astype(np.int32), x.astype(np.int32)
    down, right = y - top, x - left
    corner = (face[:, None, None] * FIELD + top) * FIELD + left
    flat = fields.ravel()

    def between(left: np.ndarray) -> np.ndarray:
        return flat.take(left) * (1 - right) + flat.take(left + 1) * right

    return between(corner) * (1 - down) + between(corner + FIELD) * down
