"""Rate-distortion curves that others published for Kodak, to be drawn beside ours: facts, with where they are from."""

from __future__ import annotations

from cbench.bench.config import Reference

REPRODUCTION = "PyTorch reproduction (ali-zafari/TBTC, 7b32fc7), size M, 1M steps, rates without file headers"
COMPRESSAI = "CompressAI's results (InterDigitalInc/CompressAI, 869a9f5)"

KODAK_TBTC = (
    Reference(
        label="Conv-Hyperprior M",
        dataset="Kodak",
        items=24,
        source=REPRODUCTION,
        points=(
            (0.14014, 28.5578, 0.928549),
            (0.34155, 31.8751, 0.967041),
            (0.72707, 35.6328, 0.985385),
            (1.34599, 39.3599, 0.993467),
        ),
    ),
    Reference(
        label="Conv-ChARM M",
        dataset="Kodak",
        items=24,
        source=REPRODUCTION,
        points=(
            (0.13755, 28.8399, 0.927845),
            (0.32838, 32.0280, 0.966404),
            (0.69259, 35.6240, 0.985349),
            (1.30888, 39.4008, 0.993479),
        ),
    ),
    Reference(
        label="SwinT-Hyperprior M",
        dataset="Kodak",
        items=24,
        source=REPRODUCTION,
        points=(
            (0.12857, 27.8192, 0.930024),
            (0.29505, 31.3080, 0.967088),
            (0.62964, 35.0098, 0.985357),
            (1.22803, 38.8917, 0.993260),
        ),
    ),
    Reference(
        label="SwinT-ChARM M",
        dataset="Kodak",
        items=24,
        source=REPRODUCTION,
        points=(
            (0.11991, 28.8517, 0.927763),
            (0.29559, 31.9991, 0.967162),
            (0.61982, 35.3399, 0.985231),
            (1.18335, 39.0264, 0.993204),
        ),
    ),
    Reference(
        label="VTM",
        dataset="Kodak",
        items=24,
        source=COMPRESSAI,
        points=(
            (0.04824, 26.1448, 0.860608),
            (0.11250, 28.4930, 0.917691),
            (0.24582, 31.1999, 0.956108),
            (0.49055, 34.2615, 0.978078),
            (0.87481, 37.4198, 0.988777),
            (1.43085, 40.4244, 0.993860),
            (2.32461, 43.5058, 0.996948),
            (3.63261, 46.5918, 0.998656),
        ),
    ),
)
"""Mean bits a pixel, PSNR in dB and MS-SSIM of the 24 pictures."""
