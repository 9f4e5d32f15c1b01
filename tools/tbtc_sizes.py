"""Code pictures of many sizes with TBTC, and say what padding costs.

    python tools/tbtc_sizes.py [CODEC]

Pictures are cut from bundled photographs. The codec pads to multiples of 64 and needs no more in its stages; the
original of the SwinT models needs multiples of 256.
"""

from __future__ import annotations

import sys

import numpy as np

from cbench.data import samples
from cbench.errors import CbenchError
from cbench.models.tbtc.config import SIDE
from cbench.nn.pictures import round_up
from cbench.zoo import load_codec

SIZES = ((1, 1), (17, 23), (321, 481), (768, 512), (512, 768), (720, 1280))
"""(height, width)."""
ORIGINAL = 256


def more(height: int, width: int, multiple: int) -> float:
    """Pixels that padding adds, as a share of the picture's."""
    return round_up(height, multiple) * round_up(width, multiple) / (height * width) - 1


def main(name: str = "tbtc.conv-xs-1") -> int:
    """Code every size; returns the exit status."""
    try:
        codec = load_codec(name)
        photo = np.tile(samples.photos()[0].array, (1, 3, 3))
        print(f"{'height':>6} {'width':>5} {'bytes':>8} {'bpp':>8} {'PSNR':>6} {'padding':>9} {'with 256':>9}")
        for height, width in SIZES:
            x = np.ascontiguousarray(photo[:, :height, :width])
            data = codec.compress(x)
            back = codec.decompress(data)
            if back.shape != x.shape:
                raise CbenchError(f"{x.shape} came back as {back.shape}")
            padding = f"{more(height, width, SIDE):9.1%} {more(height, width, ORIGINAL):9.1%}"
            error = max(float(np.square(back.astype(np.float64) - x).mean()), 1e-9)
            print(
                f"{height:6} {width:5} {len(data):8} {8 * len(data) / (height * width):8.3f} "
                f"{10 * np.log10(255**2 / error):6.2f} {padding}"
            )
    except CbenchError as error:
        print(f"tbtc_sizes: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
