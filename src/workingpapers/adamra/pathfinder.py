"""Pathfinder: are two marked ends those of one dashed curve? Drawn as Long Range Arena draws it.

Two long dashed curves of equal length begin near the middle of the picture, short ones distract.
One disc marks the start of a long curve, another the end of the same (label 1) or the other
(label 0). The settings are those of Long Range Arena (Tay et al. 2021, arXiv:2011.04006, section
2.2.5), the way of drawing is that of its source (Kim et al. 2020, arXiv:1906.01558).
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError, missing_package

CONTOURS = {6: "curv_baseline", 9: "curv_contour_length_9", 14: "curv_contour_length_14"}
"""Dashes of a long curve, and the name of such a set in Long Range Arena: easy, middle, hard."""

_ANGLES = 360
"""A curve begins at an angle of whole degrees."""

_FINER = 2
"""Shapes are drawn so many times larger, then reduced."""

_BATCH = 1000
"""Pictures of one folder of a set."""


@dataclass(frozen=True)
class _Settings:
    """How pictures of one size are drawn; lengths in pixels."""

    margins: tuple[int, ...]
    """Half the gap between dashes, and the clearance around them; one is drawn for a picture."""
    dash: int
    thickness: float
    seed_distance: int
    """Between the starts of the two long curves; twice as far is the first from the border."""
    marker_radius: float
    continuity: float
    """The greater, the less may a curve turn from dash to dash."""
    distractor_dashes: int
    """In all distractors together."""
    contrasts: tuple[float, float]
    """Of the long curves and of the distractors, where markers have 1."""
    padding: int = 1
    """Nothing is drawn so near the border, but for what antialiasing spreads."""


_SETTINGS = {
    32: _Settings((1,), 2, 0.5, 7, 1.5, 1.0, 20, (2 * 0.75, 2.0)),
    64: _Settings((1,), 5, 1.0, 12, 2.5, 1.8, 22, (0.8, 0.8)),
    128: _Settings((2, 3), 5, 1.5, 20, 3.0, 1.8, 35, (0.9, 0.9)),
    256: _Settings((3,), 5, 2.0, 27, 5.0, 1.8, 30, (1.0, 1.0), padding=22),
}


class Shapes(NamedTuple):
    """All dashes there are, and where they lead: what the kernels look up.

    The first dash of a curve has one of `angles` shapes and starts at its tail; any other points
    from a pixel of a ring around its pivot back to the pivot and starts at that pixel, its head.
    Offsets are rows (y, x).
    """

    angles: int
    ink: Float32[np.ndarray, "shapes width width"]
    """The dash from the centre on, antialiased, 0 to 1."""
    clearance: Float32[np.ndarray, "shapes width width"]
    """What the dash takes: its pixels and those around it."""
    step: Int[np.ndarray, "shapes 2"]
    """From the pivot of a dash to that of the next."""
    likelihood: Float[np.ndarray, "shapes ring"]
    """Of each dash to come after each, up to a factor."""
    head: Int[np.ndarray, "angles 2"]
    """From the tail of a first dash to its head."""
    pivot: Int[np.ndarray, "angles 2"]
    """From the tail of a first dash to its pivot."""
    core: Int[np.ndarray, "angles most 2"]
    """Pixels that a first dash takes wholly, from its tail; `core_sizes` tells how many."""
    core_sizes: Int[np.ndarray, " angles"]
    around: Int[np.ndarray, "angles 2"]
    """From the start of the first curve to that of the second."""
    ring: Int[np.ndarray, "ring 2"]
    """From a pivot to the heads that its dash may have."""
    disc: Int[np.ndarray, "near 2"]
    """Pixels that must be free around a head."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One Pathfinder picture in layers."""

    contours: Float32[np.ndarray, "2 side side"]
    """The two long curves, each alone, 0 to 1."""
    distractors: Float32[np.ndarray, "side side"]
    """All short curves, 0 to 1."""
    starts: Int[np.ndarray, "2 2"]
    """Where each long curve starts: rows (y, x)."""
    ends: Int[np.ndarray, "2 2"]
    """Where each long curve ends."""
    markers: Int[np.ndarray, "2 2"]
    """A start and an end: the centres of the two discs."""
    label: int
    """1 where the markers are of one curve, else 0."""
    image: UInt8[np.ndarray, "side side"]
    """All together; the brightest pixel is 255."""


@dataclass(frozen=True)
class Pathfinder:
    """Pictures of 32, 64, 128 or 256 pixels a side, with long curves of `contour` dashes.

    `contour` is 6 (easy), 9 or 14 (hard). All else follows Long Range Arena's settings for the
    side; what those for 256 leave open (padding, distance of the starts) is the reference
    generator's default. Unlike there, no curve here is laid over the last dash of another.
    InputError for another side or contour.
    """

    side: int = 32
    contour: int = 14

    def __post_init__(self) -> None:
        for name, value, known in (
            ("side", self.side, _SETTINGS),
            ("contour", self.contour, CONTOURS),
        ):
            if value not in known:
                raise InputError(
                    f"{name}: expected one of {', '.join(map(str, known))}, got {value}"
                )

    @property
    def distractor_length(self) -> int:
        """Dashes of a distractor."""
        return self.contour // 3

    @property
    def distractors(self) -> int:
        """The most distractors of a picture; fewer where there is no room."""
        return _SETTINGS[self.side].distractor_dashes // self.distractor_length

    def images(
        self, count: int, seed: int
    ) -> tuple[UInt8[np.ndarray, "count side side"], Int[np.ndarray, " count"]]:
        """Grey pictures and labels, 0 or 1 with equal chance.

        The first pictures of a larger `count` are those of a smaller one.
        """
        if count < 1:
            raise InputError(f"count: expected at least 1, got {count}")
        images = np.empty((count, self.side, self.side), np.uint8)
        labels = np.empty(count, np.int64)
        for index, scene in zip(range(count), self.scenes(seed), strict=False):
            images[index] = scene.image
            labels[index] = scene.label
        return images, labels

    def scenes(self, seed: int) -> Iterator[Scene]:
        """The pictures of `images` with their layers, without end."""
        if seed < 0:
            raise InputError(f"seed: expected at least 0, got {seed}")
        rng = np.random.default_rng(seed)
        while True:
            yield self._draw(rng)

    def _draw(self, rng: np.random.Generator) -> Scene:
        from workingpapers.adamra import pathfinder_kernels as kernels

        settings = _SETTINGS[self.side]
        label, origin, margin = (int(rng.random() * n) for n in (2, 2, len(settings.margins)))
        shapes = _shapes(self.side, settings.margins[margin])
        occupancy = np.empty((self.side, self.side), np.float32)
        pair = np.empty((2, self.contour, 3), np.int64)
        kernels.lay_pair(rng, shapes, settings.padding, settings.seed_distance, occupancy, pair)
        short = np.empty((self.distractors, self.distractor_length, 3), np.int64)
        laid = kernels.lay_distractors(rng, shapes, settings.padding, occupancy, short)

        layers = np.zeros((4, self.side, self.side), np.float32)
        for layer, dashes in zip(
            layers, (pair[0], pair[1], short[:laid].reshape(-1, 3)), strict=False
        ):
            kernels.stamp_all(layer, shapes.ink, dashes)
        starts, ends = pair[:, 0, 1:], pair[:, -1, 1:]
        markers = np.stack([starts[origin], ends[origin if label else 1 - origin]])
        for y, x in markers:
            kernels.stamp(layers[3], _marker(settings.marker_radius), y, x)
        curves, distractors = settings.contrasts
        contrasts = np.array([curves, curves, distractors, 1.0], np.float32)
        image = (layers * contrasts[:, None, None]).max(axis=0)
        return Scene(
            contours=layers[:2],
            distractors=layers[2],
            starts=starts,
            ends=ends,
            markers=markers,
            label=label,
            image=np.rint(image * (255 / image.max())).astype(np.uint8),
        )


def read_folder(
    path: Path, side: int
) -> tuple[UInt8[np.ndarray, "count side side"], Int[np.ndarray, " count"]]:
    """Grey pictures of `side` x `side` pixels and labels of a set in the reference's layout.

    Pictures are `imgs/<batch>/sample_<i>.png`; each row of `metadata/<batch>.npy` begins with
    folder, file, number and label of one, in text, separated by blanks, or in an array of text.
    InputError names the file, and the line, that is missing or not as expected.
    """
    batches = sorted(
        (path / "metadata").glob("*.npy"), key=lambda file: (len(file.stem), file.stem)
    )
    if not batches:
        raise InputError(f"{path}: expected a folder with metadata/<batch>.npy in it, found none")
    rows = [row for file in batches for row in _read_metadata(file)]
    images = np.empty((len(rows), side, side), np.uint8)
    for image, (name, _) in zip(images, rows, strict=True):
        image[:] = _read_picture(path / name, side)
    return images, np.array([label for _, label in rows], np.int64)


def write_folder(
    path: Path,
    images: UInt8[np.ndarray, "count side side"],
    labels: Int[np.ndarray, " count"],
    *,
    contour: int = 14,
) -> None:
    """Write a set that `read_folder` and readers of the reference's layout read, 1,000 a batch.

    A set that is there already is replaced. The rows of the metadata, which are written last,
    have number, label and settings of a picture. InputError where the pictures' side or `contour`
    is none of Pathfinder's, or a label is not 0 or 1.
    """
    drawn = Pathfinder(images.shape[1], contour)
    settings = _SETTINGS[drawn.side]
    if len(images) == 0:
        raise InputError("images: expected at least one")
    if not np.isin(labels, (0, 1)).all():
        raise InputError("labels: expected 0 and 1")
    Image, _ = _pillow()
    metadata = path / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)
    for file in metadata.glob("*.npy"):
        file.unlink()
    texts = []
    for first in range(0, len(images), _BATCH):
        folder = f"imgs/{first // _BATCH}"
        (path / folder).mkdir(parents=True, exist_ok=True)
        text = ""
        batch = slice(first, first + _BATCH)
        for number, (image, label) in enumerate(zip(images[batch], labels[batch], strict=True)):
            Image.fromarray(image).save(path / folder / f"sample_{number}.png")
            text += (
                f"{folder} sample_{number}.png {number} {label} {settings.continuity} {contour} "
                f"{drawn.distractor_length} {settings.dash} {settings.thickness}\n"
            )
        texts.append(text)
    for index, text in enumerate(texts):
        write_atomically(metadata / f"{index}.npy", text)


def _read_metadata(file: Path) -> list[tuple[str, int]]:
    """Path, from the set's folder, and label of each picture that a metadata file names."""
    data = file.read_bytes()
    try:
        if data.startswith(b"\x93NUMPY"):
            table = np.load(io.BytesIO(data), allow_pickle=False)
            rows = table.astype(str).tolist() if table.ndim == 2 else []
        else:
            rows = [line.split() for line in data.decode().splitlines()]
    except ValueError as error:
        raise InputError(f"{file}: expected rows of text ({error})") from error
    if not rows:
        raise InputError(f"{file}: expected a row for each picture, found none")
    pictures = []
    for number, row in enumerate(rows, start=1):
        if len(row) < 4:
            raise InputError(
                f"{file}: line {number}: expected folder, file, number and label of a picture, "
                f"found {' '.join(row)[:60]!r}"
            )
        if row[3] not in ("0", "1"):
            raise InputError(
                f"{file}: line {number}: expected the label 0 or 1, found {row[3][:20]!r}"
            )
        pictures.append((f"{row[0]}/{row[1]}", int(row[3])))
    return pictures


def _read_picture(file: Path, side: int) -> UInt8[np.ndarray, "side side"]:
    Image, _ = _pillow()
    try:
        with Image.open(file) as picture:
            if picture.size != (side, side):
                width, height = picture.size
                raise InputError(
                    f"{file}: expected {side} x {side} pixels, found {width} x {height}"
                )
            return np.asarray(picture.convert("L"))
    except OSError as error:
        reason = error.strerror or "not a picture that can be read"
        raise InputError(f"{file}: {reason}") from error


@cache
def _shapes(side: int, margin: int) -> Shapes:
    settings = _SETTINGS[side]
    reach = settings.dash + margin
    degrees = np.deg2rad(np.arange(_ANGLES) - 180)
    # A pixel's worth of arc apart, rounded down: some pixels of the ring are met twice.
    arc = np.arange(0, 2 * math.pi, 1 / reach)
    ring = np.unique(np.floor(_vectors(arc, reach)).astype(np.int64), axis=0)
    outward = np.arctan2(ring[:, 0], ring[:, 1])
    angles = np.concatenate([degrees, outward])
    drawn = [_dash(angle, margin, settings) for angle in (*degrees, *(outward + math.pi))]
    ink, clearance = (np.stack(patterns) for patterns in zip(*drawn, strict=True))
    turn = np.abs(angles[:, None] - outward)
    turn = np.minimum(turn, 2 * math.pi - turn)
    head = _ceiled(degrees, settings.dash)
    cores = [np.argwhere(pattern == 1) - len(pattern) // 2 for pattern in clearance[:_ANGLES]]
    core = np.zeros((_ANGLES, max(map(len, cores)), 2), np.int64)
    for rows, pixels in zip(core, cores, strict=True):
        rows[: len(pixels)] = pixels
    near = np.arange(-margin, margin + 1)
    disc = np.stack(np.meshgrid(near, near, indexing="ij"), axis=-1).reshape(-1, 2)
    return Shapes(
        angles=_ANGLES,
        ink=ink,
        clearance=clearance,
        step=_ceiled(angles, settings.dash + 2 * margin),
        likelihood=np.cos(np.minimum(settings.continuity * turn, math.pi / 2)) ** 2,
        head=head,
        pivot=head + _ceiled(degrees + math.pi, reach),
        core=core,
        core_sizes=np.array([len(pixels) for pixels in cores]),
        around=np.rint(_vectors(degrees, settings.seed_distance)).astype(np.int64),
        ring=ring,
        disc=disc[(disc**2).sum(axis=1) <= margin**2],
    )


def _vectors(angles: Float[np.ndarray, " n"], length: float) -> Float[np.ndarray, "n 2"]:
    """Rows (y, x) of this length; rounded, so that a right angle's have a whole 0."""
    return np.round(length * np.stack([np.sin(angles), np.cos(angles)], axis=-1), 9)


def _ceiled(angles: Float[np.ndarray, " n"], length: float) -> Int[np.ndarray, "n 2"]:
    # The reference moves by rounding up and looks around by rounding down; so the two make up
    # for each other, and the curves keep to its distribution.
    return np.ceil(_vectors(angles, length)).astype(np.int64)


def _dash(
    angle: float, margin: int, settings: _Settings
) -> tuple[Float32[np.ndarray, "width width"], Float32[np.ndarray, "width width"]]:
    """Ink and clearance of a dash from the centre on at this angle, clockwise from the right."""
    Image, ImageDraw = _pillow()
    half = settings.dash + math.ceil(settings.thickness) + margin
    size = 2 * half * _FINER + 1
    centre = half * _FINER
    y, x = _ceiled(np.array([angle]), settings.dash * _FINER)[0] + centre
    line = Image.new("L", (size, size))
    ImageDraw.Draw(line).line(
        [(centre, centre), (int(x), int(y))],
        fill=255,
        width=round(settings.thickness * _FINER),
    )
    drawn = np.asarray(line)
    pixels = np.argwhere(np.ones((size, size)))[:, None]
    distances = ((pixels - np.argwhere(drawn)) ** 2).sum(axis=-1).min(axis=-1)
    near = (distances <= (margin * _FINER) ** 2).reshape(size, size)
    return _reduced(drawn, 2 * half + 1), _reduced(near * np.uint8(255), 2 * half + 1)


@cache
def _marker(radius: float) -> Float32[np.ndarray, "width width"]:
    """A disc, antialiased, 0 to 1."""
    width = 2 * math.ceil(radius) + 3
    offsets = (np.arange(width * _FINER) + 0.5) / _FINER - width / 2
    disc = offsets[:, None] ** 2 + offsets**2 <= radius**2
    return _reduced(disc * np.uint8(255), width)


def _reduced(
    drawn: UInt8[np.ndarray, "finer finer"], width: int
) -> Float32[np.ndarray, "width width"]:
    Image, _ = _pillow()
    smaller = Image.fromarray(drawn).resize((width, width), Image.Resampling.LANCZOS)
    return np.asarray(smaller, np.float32) / 255


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise missing_package("pillow", "adamra") from error
    return Image, ImageDraw
