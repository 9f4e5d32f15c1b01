"""List how fine the latents of every picture will be, for finetuning ArIB-BPS: `AribTraining.qps`.

A line is: CRC-32 of the picture, qp, name. Training finds a picture by its content, so the order does not matter.

    python tools/list_qps.py WEIGHTS FOLDER_OR_DATA_SET OUTPUT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from cbench.coding.container import content_check
from cbench.data import cifar10, folder
from cbench.errors import CbenchError
from cbench.files.atomic import atomic_write
from cbench.models.arib_bps import checkpoint
from cbench.models.arib_bps.rates import qps_of


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="our weights file, or a folder with sig.pth and ins.pth")
    parser.add_argument("data", help='a folder of pictures, or "cifar10" for its training split')
    parser.add_argument("output", type=Path)
    parser.add_argument("--limit", type=int, help="only the first pictures")
    given = parser.parse_args()
    try:
        network = checkpoint.load(given.weights).network
        samples = cifar10.train() if given.data == "cifar10" else folder.pictures(Path(given.data))
        lines = []
        for sample in samples[: given.limit]:
            x = torch.from_numpy(np.array(sample.array))[None]
            lines.append(f"{content_check(sample.array):08x} {int(qps_of(network, x))} {sample.name}\n")
        with atomic_write(given.output, force=True) as temporary:
            temporary.write_text("".join(lines))
    except CbenchError as error:
        print(f"list_qps: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
