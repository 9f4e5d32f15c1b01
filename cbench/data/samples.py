"""Data without any download: photographs that scikit-image's wheel holds, and a cube made by formula."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cbench.data.base import LazySamples, read_array
from cbench.errors import ConfigError, DataNotFoundError

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
"""Colour photographs of 8 bits; the last one is what a JPEG decoder makes of it."""

# Wavelength, width (nm) and depth of the absorption by water vapour.
_ATMOSPHERE = ((940.0, 25.0, 0.35), (1140.0, 30.0, 0.45), (1400.0, 45.0, 0.95))
_PEAK = 16_000  # counts of a white surface at the maximum of the solar spectrum
_ABUNDANCE_BITS = 12
_LIGHT_BITS = 10


def photos() -> LazySamples[Path]:
    """Five colour photographs, (3, H, W) uint8, 451 x 300 to 741 x 500 pixels.

    Raises:
        DataNotFoundError: scikit-image is not installed.
    """
    paths = _photo_paths()
    return LazySamples([path.stem for path in paths], paths, read_array)


def small_photos(side: int = 64) -> LazySamples[tuple[Path, int, int, int]]:
    """Square tiles of the photographs, (3, side, side) uint8, without overlap.

    The photographs take turns and the tiles of each are scattered, so that the first few show them all.

    Raises:
        ConfigError: `side` is not within 8..300.
        DataNotFoundError: scikit-image is not installed.
    """
    if not 8 <= side <= 300:
        raise ConfigError(f"side (={side}) must be within 8..300")
    turns = []
    for path in _photo_paths():
        _, height, width = read_array(path).shape
        tiles = [(y, x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
        # Multiples of the golden ratio spread evenly over the picture.
        order = sorted(range(len(tiles)), key=lambda place: place * 0.6180339887498949 % 1)
        turns += [(turn, path, *tiles[place]) for turn, place in enumerate(order)]
    turns.sort(key=lambda entry: entry[0])
    keys = [(path, y, x, side) for _, path, y, x in turns]
    return LazySamples([f"{path.stem}-{y:03d}-{x:03d}" for path, y, x, _ in keys], keys, _read_tile)


def cube() -> LazySamples[int]:
    """One synthetic hyperspectral cube, (64, 48, 64) uint16; the same samples on every machine."""
    return LazySamples(["synthetic"], [1], _default_cube)


def _photo_paths() -> list[Path]:
    # Found without importing scikit-image, which takes longer than reading the pictures.
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise DataNotFoundError("the bundled photographs are part of scikit-image: pip install scikit-image")
    paths = [Path(spec.origin).parent / "data" / name for name in PHOTOS]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise DataNotFoundError(f"this version of scikit-image does not bundle {absent[0].name}")
    return paths


def _read_tile(key: tuple[Path, int, int, int]) -> np.ndarray:
    path, y, x, side = key
    return np.ascontiguousarray(read_array(path)[:, y : y + side, x : x + side])


def _default_cube(seed: int) -> np.ndarray:
    return make_cube(seed=seed)


def make_cube(bands: int = 64, lines: int = 48, columns: int = 64, seed: int = 1) -> np.ndarray:
    """A scene as an imaging spectrometer sees it, (bands, lines, columns) uint16, 420 to 2450 nm.

    Sunlight (a black body of 5778 K, less the absorption by water vapour at 940, 1140 and 1400 nm) on a
    mixture of vegetation, soil, water, concrete and tiles whose shares vary smoothly; uneven light; photon
    noise. Spectra are rounded to integers and everything after them is integer arithmetic on the raw output
    of a documented bit generator, so the samples do not depend on the machine or on numpy's version.
    """
    wavelength = np.linspace(420.0, 2450.0, bands) if bands > 1 else np.array([1000.0])
    spectra = np.rint(_PEAK * _sunlight(wavelength) * _reflectances(wavelength)).astype(np.int64)
    raw = np.random.PCG64(seed)
    fields = np.stack([_field(raw, lines, columns) for _ in spectra])
    shares = fields**5 + 1
    shares = (shares << _ABUNDANCE_BITS) // shares.sum(axis=0)
    light = (3 << (_LIGHT_BITS - 2)) + 2 * _field(raw, lines, columns)
    signal = np.einsum("mb,mhw->bhw", spectra, shares) * light >> (_ABUNDANCE_BITS + _LIGHT_BITS)
    # Variance of the noise in 1/256: proportional to the signal, and that of the electronics.
    deviation = np.sqrt(16 * signal + 1024).astype(np.int64)
    noise = (_normal(raw, signal.shape) * deviation + (1 << 19)) >> 20
    return np.clip(signal + noise, 0, 65535).astype(np.uint16)


def _bell(wavelength: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((wavelength - centre) / width) ** 2))


def _sunlight(wavelength: np.ndarray) -> np.ndarray:
    """Light at the ground relative to the maximum of the solar spectrum."""
    metres = wavelength * 1e-9
    planck = metres**-5 / (np.exp(0.0143877688 / (metres * 5778.0)) - 1.0)
    light = planck / (501.5e-9**-5 / (np.exp(0.0143877688 / (501.5e-9 * 5778.0)) - 1.0))
    for centre, width, depth in _ATMOSPHERE:
        light = light * (1.0 - depth * _bell(wavelength, centre, width))
    return light


def _reflectances(wavelength: np.ndarray) -> np.ndarray:
    """(5, bands) reflectances within 0..1: vegetation, soil, water, concrete, tiles."""

    def step(centre: float, width: float) -> np.ndarray:
        return 1.0 / (1.0 + np.exp((centre - wavelength) / width))

    def dip(centre: float, width: float, depth: float) -> np.ndarray:
        return 1.0 - depth * _bell(wavelength, centre, width)

    leaf_water = dip(970, 40, 0.12) * dip(1190, 60, 0.25) * dip(1450, 90, 0.6) * dip(1940, 120, 0.75)
    red_edge = 0.45 * step(715, 14) * leaf_water * (1.0 - 0.5 * step(1700, 250))
    vegetation = 0.04 + 0.05 * _bell(wavelength, 550, 40) + red_edge
    clay = dip(1410, 35, 0.08) * dip(2205, 35, 0.12)
    soil = (0.06 + 0.33 * (1.0 - np.exp((400.0 - wavelength) / 800.0))) * clay
    water = 0.005 + 0.06 * np.exp((420.0 - wavelength) / 170.0)
    concrete = (0.24 + 0.06 * step(700, 200)) * dip(1940, 80, 0.06) * dip(2340, 40, 0.05)
    tiles = (0.05 + 0.34 * step(600, 28)) * dip(870, 70, 0.15)
    return np.stack([vegetation, soil, water, concrete, tiles])


def _field(raw: np.random.PCG64, lines: int, columns: int) -> np.ndarray:
    """A smooth random surface within 0..255, (lines, columns) int64."""
    coarse, fine = _smooth(raw, lines, columns, 5), _smooth(raw, lines, columns, 1)
    both = 3 * coarse + fine
    return (both - both.min()) * 255 // max(int(both.max() - both.min()), 1)


def _smooth(raw: np.random.PCG64, lines: int, columns: int, radius: int) -> np.ndarray:
    """White noise, three times averaged over a moving square, within 0..255."""
    noise = (raw.random_raw(lines * columns) >> np.uint64(48)).astype(np.int64).reshape(lines, columns)
    for axis in (0, 1) * 3:
        noise = sum(np.roll(noise, shift, axis) for shift in range(-radius, radius + 1))  # type: ignore[assignment]
    return (noise - noise.min()) * 255 // max(int(noise.max() - noise.min()), 1)


def _normal(raw: np.random.PCG64, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers x 2^16: the sum of twelve uniform ones of 16 bits has exactly that deviation."""
    count = int(np.prod(shape))
    words = raw.random_raw(3 * count).astype("<u8").view("<u2").reshape(count, 12)
    return (words.astype(np.int64).sum(axis=1) - 6 * 65535).reshape(shape)
