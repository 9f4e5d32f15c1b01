"""Files of FSAR's less usual models, written here and read by a process with other kernels and more threads."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import torch

from cbench.data import samples
from cbench.models.fsar import checkpoint, config, dsar
from cbench.models.fsar.dsar_config import DsarConfig
from cbench.models.fsar.dsar_networks import build_network
from cbench.models.fsar.network import FsarNetwork
from cbench.zoo import load_codec

MODELS = {
    "mcquic": replace(config.mcquic(), channels=16, codes=64),
    "volume": replace(config.tiny(), convolution="volume"),
    "networks": replace(config.tiny(), channels=12, groups=3, codes=96, context=config.NEIGHBOURS["c2lt"]),
    "four": replace(config.tiny(), groups=4, codes=8, context=config.NEIGHBOURS["c2lt"]),
    "moving": replace(config.tiny(), quantizer="vqvae-ema"),
}
DECODE = """
import sys
from pathlib import Path
import numpy as np
from cbench.zoo import load_codec
for weights in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    codec = load_codec("fsar.dsar" if weights.stem == "dsar" else "fsar.cifar10", weights=weights, threads=2)
    found = np.stack(codec.decompress_many(weights.with_suffix(".bin").read_bytes()))
    print(weights.stem, (found == np.load(Path(sys.argv[1]) / "x.npy")).all())
"""


def test_files_decode_with_other_kernels(tmp_path):
    torch.manual_seed(0)
    pictures = [sample.array for sample in samples.small_photos(32)[:3]]
    np.save(tmp_path / "x.npy", np.stack(pictures))
    for name, model in MODELS.items():
        network = FsarNetwork(model).eval().requires_grad_(False)
        network.decoder[-1].bias.copy_(torch.tensor([0.5, -1.5] * 3))
        weights = checkpoint.build(network.state_dict(), model)
        assert (weights.tables is None) == (name != "four")
        checkpoint.save(tmp_path / f"{name}.safetensors", weights, {})
    masked = build_network(DsarConfig(form="masked")).eval().requires_grad_(False)
    values = torch.from_numpy(np.stack(pictures)).transpose(0, 1).flatten(1).long()
    masked.prior_logits.copy_(torch.stack([torch.bincount(own, minlength=256) + 0.1 for own in values]).log())
    dsar.save(tmp_path / "dsar.safetensors", dsar.DsarWeights(masked, None), {})
    names = sorted([*MODELS, "dsar"])
    for name in names:
        codec = load_codec("fsar.dsar" if name == "dsar" else "fsar.cifar10", weights=tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.bin").write_bytes(codec.compress_many(pictures))
    assert (tmp_path / "dsar.bin").stat().st_size < 0.98 * values.numel()  # or it would have been stored raw
    out = subprocess.run(
        [sys.executable, "-c", DECODE, str(tmp_path)],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default", "CBENCH_SIMD": "portable", "MKL_CBWR": "COMPATIBLE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.stdout.split("\n")[:-1] == [f"{name} True" for name in names], out.stderr
