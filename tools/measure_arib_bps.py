"""Measure ArIB-BPS beyond what a benchmark shows: what the bytes are for, speed without training, determinism.

    python tools/measure_arib_bps.py rates [--limit 60] [--pyramid]  # from the bound of the loss to the bytes of files
    python tools/measure_arib_bps.py speed [--precision exact]       # the paper's CIFAR-10 model with random weights
    python tools/measure_arib_bps.py memory                          # the same on a large picture: peak memory
    python tools/measure_arib_bps.py matrix                          # files decoded in other environments

`rates` and `matrix` use the shipped weights (or --weights) and CIFAR-10 test pictures.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from cbench.coding.archive import unpack_archive
from cbench.coding.container import payload_size
from cbench.data import cifar10
from cbench.errors import CbenchError
from cbench.models.arib_bps import checkpoint, config, engine
from cbench.models.arib_bps.codec import AribCodec
from cbench.models.arib_bps.network import AribNetwork
from cbench.models.arib_bps.planes import STEPS, bit, signs, top
from cbench.models.arib_bps.rates import bounds
from cbench.zoo import load_codec
from cbench.zoo.weights import shipped

CODEC, PYRAMID = "arib_bps.cifar10", "arib_bps.pyramid"
PARTS = {
    "entropy coder": {"io.py": ("push_binary", "pop_binary", "push_bits", "pop_bits", "to_bytes")},
    "networks": {"network.py": ("contexts", "parameters_of", "bottom", "top_down")},
    "latents": {"stack_coder.py": ("draw", "known", "remember")},
}
"""Methods whose time is told apart. What draws latents is called by a network, and mostly waits for the coder."""
BATCHES = (1, 8, 64)
ENVIRONMENTS = tuple(product((1, 2), ("on", "off"), ("avx2", "avx512")))
"""Threads, oneDNN, instruction set of torch; beside AVX2 our own kernels are those that need not even that."""
OTHERS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "CBENCH_SIMD": "portable",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
    },
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
}
"""The same for oneDNN; and for MKL, whose products no other setting changes here."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("rates", "speed", "memory", "matrix", "cell"):
        add = commands.add_parser(name).add_argument
        add("--weights", type=Path, help="another weights file than the shipped one")
        if name == "rates":
            add("--limit", type=int, default=60, help="pictures")
            add("--pyramid", action="store_true", help="of arib_bps.pyramid instead")
            add("--draws", type=int, default=4, help="draws of the latents for the bounds")
        if name == "speed":
            add("--precision", choices=engine.PRECISIONS, default="fast")
            add("--shipped", action="store_true", help="the shipped weights (or --weights), not the paper's model")
            add("--pictures", type=int, default=64, help="in the batch")
            add("--repeats", type=int, default=3)
        if name == "memory":
            add("--precision", choices=engine.PRECISIONS, help="only this one")
            add("--shipped", action="store_true", help="the shipped weights (or --weights), not the paper's model")
            add("--size", type=int, nargs=2, metavar=("H", "W"), default=(512, 768))
        if name == "cell":
            add("folder", type=Path)
            add("number", type=int)
    given = parser.parse_args()
    try:
        commands = {"rates": rates, "speed": speed, "memory": memory, "matrix": matrix, "cell": cell}
        return commands[given.command](given)
    except CbenchError as error:
        print(f"measure_arib_bps: {error}", file=sys.stderr)
        return 1


def rates(given: argparse.Namespace) -> int:
    """Bits a sample, from the loss to the file."""
    x = [np.array(sample.array) for sample in cifar10.test()[: given.limit]]
    codec = load_codec(PYRAMID, given.weights) if given.pyramid else load_codec(CODEC, given.weights)
    files, archive = [codec.compress(picture) for picture in x], codec.compress_many(x)
    back = [*map(codec.decompress, files), *codec.decompress_many(archive)]
    wrong = sum(not np.array_equal(a, b) for a, b in zip(x + x, back, strict=True))
    samples = sum(picture.size for picture in x)
    opened = unpack_archive(archive)
    theory = {"symbols": sum(map(codec.bits, x))} if given.pyramid else elbo(given, x)
    print(f"{codec.name}: {len(x)} pictures, {wrong} wrong; bits a sample")
    for name, bits in (
        *theory.items(),
        ("streams in an archive", 8 * sum(map(opened.payload_bytes, range(len(opened))))),
        ("archive", 8 * len(archive)),
        ("streams in single files", 8 * sum(map(payload_size, files))),
        ("single files", 8 * sum(map(len, files))),
    ):
        print(f"{name:26s}{bits / samples:8.4f}")
    return int(wrong > 0)


def elbo(given: argparse.Namespace, x: list[np.ndarray]) -> dict[str, float]:
    """Both bounds of all pictures together, in bits."""
    network = checkpoint.load(given.weights or shipped(CODEC)).network.eval()
    generator = torch.Generator().manual_seed(0)
    found = [bounds(network, torch.from_numpy(picture)[None], given.draws, generator) for picture in x]
    continuous, quantised = np.array(found).T @ [picture.size for picture in x]
    return {"ELBO": continuous, "ELBO, quantised latents": quantised}


def speed(given: argparse.Namespace) -> int:
    """Pictures a second of one thread's CPU time, beside the passes of the original in the same process."""
    network, codec = model_of(given)
    x = pictures(given.pictures, 32, 32)
    jobs: dict[str, tuple[int, Callable[[], object]]] = {"the original's passes": (1, original_passes(network, x[0]))}
    for some in (x[:1], x):
        heads, payloads = [codec.header(picture) for picture in some], codec.encode(some)
        jobs[f"encode, {len(some)} at once"] = len(some), partial(codec.encode, some)
        jobs[f"decode, {len(some)} at once"] = len(some), partial(codec.decode, heads, payloads)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(given.repeats):
        for name, (_, job) in jobs.items():
            begin = time.thread_time()
            job()
            times[name].append(time.thread_time() - begin)
    model = "the shipped model" if given.shipped else "the paper's CIFAR-10 model, random weights"
    print(f"{model}, {given.precision}, one thread; pictures of 32 x 32 a CPU second")
    for name, (count, job) in jobs.items():
        rate = count / statistics.median(times[name])
        ratio = rate * statistics.median(times["the original's passes"])
        parts = ", ".join(f"{part} {100 * share:.1f} %" for part, share in shares(job).items() if share)
        print(f"{name:24s}{rate:8.3f}   x {ratio:.2f}   {parts}")
    return 0


def shares(job: Callable[[], object]) -> dict[str, float]:
    """How much of the CPU time of a call its parts take."""
    profile = cProfile.Profile(time.thread_time)
    profile.runcall(job)
    stats = pstats.Stats(profile)
    calls = stats.stats.items()  # type: ignore[attr-defined]
    total = stats.total_tt  # type: ignore[attr-defined]
    found = {
        part: sum(row[3] for (path, _, name), row in calls if name in methods.get(Path(path).name, ())) / total
        for part, methods in PARTS.items()
    }
    latents = found.pop("latents")
    return found | {"networks": found["networks"] - latents}


def memory(given: argparse.Namespace) -> int:
    """Peak memory for coding and decoding one picture; each precision in a process of its own."""
    if given.precision is None:
        command = [sys.executable, __file__, *sys.argv[1:], "--precision"]
        return sum(subprocess.run([*command, one]).returncode for one in ("exact", "fast", "bf16"))
    _, codec = model_of(given)
    x = pictures(1, *given.size)
    begin = time.thread_time()
    data = codec.encode(x)
    middle = time.thread_time()
    assert_equal(codec.decode([codec.header(x[0])], data), x)
    seconds = f"{middle - begin:.0f} s of CPU time for encoding, {time.thread_time() - middle:.0f} s for decoding"
    print(f"{given.size[0]} x {given.size[1]}, {given.precision}: peak {peak():.2f} GB; {seconds}", flush=True)
    return 0


def matrix(given: argparse.Namespace) -> int:
    """Decode in every environment of `ENVIRONMENTS`, in batches of 1, 8 and 64, what this process has coded.

    Each of the eight environments decodes two single files and an archive of 8 of its own, and one of two archives of
    64, which its networks see at once and the encoder's in four parts: 208 different pictures, 592 decodings.
    """
    weights = given.weights or shipped(CODEC)
    codec = AribCodec(CODEC, checkpoint.load(weights))
    x = [sample.array for sample in cifar10.test()[:208]]
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = iter(range(80))
        for number in range(len(ENVIRONMENTS)):
            for batch in (1, 1, 8):
                items = [next(own) for _ in range(batch)]
                save(folder / f"{number}-{items[0]}", codec, [x[i] for i in items])
        for half in range(2):
            save(folder / f"all-{half}", codec, x[80 + 64 * half : 144 + 64 * half])
        for number, (threads, onednn, capability) in enumerate(ENVIRONMENTS):
            command = [sys.executable, __file__, "cell", folder, str(number), "--weights", weights]
            environment = {**os.environ, **OTHERS[capability]}
            out = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
            result = out.stdout.strip() or out.stderr.strip().splitlines()[-1]
            print(f"threads {threads}, oneDNN {onednn}, {capability}: {result}", flush=True)
            wrong += out.returncode != 0
    return int(wrong > 0)


def save(path: Path, codec: AribCodec, x: list[np.ndarray]) -> None:
    """A file and what it must give."""
    path.with_suffix(".cbn").write_bytes(codec.compress(x[0]) if len(x) == 1 else codec.compress_many(x))
    np.save(path.with_suffix(".npy"), np.stack(x))


def cell(given: argparse.Namespace) -> int:
    """One environment of `matrix`, in a process of its own."""
    threads, onednn, _ = ENVIRONMENTS[given.number]
    torch.backends.mkldnn.enabled = onednn == "on"
    engine.BATCH_PIXELS = max(BATCHES) * 32 * 32
    codec = AribCodec(CODEC, checkpoint.load(given.weights), threads=threads)
    right = dict.fromkeys(BATCHES, 0)
    files = [*given.folder.glob(f"{given.number}-*.cbn"), given.folder / f"all-{given.number % 2}.cbn"]
    for path in files:
        x, data = np.load(path.with_suffix(".npy")), path.read_bytes()
        found = codec.decompress_many(data) if len(x) > 1 else [codec.decompress(data)]
        assert_equal(found, x)
        right[len(x)] += len(x)
    print("right: " + ", ".join(f"{count} in batches of {batch}" for batch, count in right.items()))
    return 0


def model_of(given: argparse.Namespace) -> tuple[AribNetwork, AribCodec]:
    """The paper's CIFAR-10 model with random weights, or the shipped one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if given.shipped:
        weights = checkpoint.load(given.weights or shipped(CODEC))
    else:
        weights = checkpoint.Weights(AribNetwork(config.cifar10()))
    network = weights.network.eval().requires_grad_(False)
    return network, AribCodec(CODEC, weights, precision=given.precision)


def pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth pictures with some noise; what is on them does not change the time."""
    random = np.random.default_rng(0)
    slopes = random.normal(0, 4, (2, count, 3, 1, 1))
    y, x = np.mgrid[:height, :width]
    field = 128 + slopes[0] * (y % 32 - 16) + slopes[1] * (x % 32 - 16) + random.normal(0, 3, (count, 3, height, width))
    return list(np.clip(np.rint(field), 0, 255).astype(np.uint8))


def original_passes(network: AribNetwork, picture: np.ndarray) -> Callable[[], None]:
    """The network passes with which the original encodes a picture: float32, one plane and step after the other."""
    x = torch.from_numpy(picture.copy())[None]

    def latent(i: int, mu_q: torch.Tensor | None, mu_p: torch.Tensor) -> torch.Tensor:
        return mu_p if mu_q is None else mu_q

    @torch.inference_mode()
    def run() -> None:
        lvae = network.sig.lvae
        f_z = lvae.top_down((1, *x.shape[2:]), lvae.bottom(top(x, network.sig.planes)), latent)
        for model, parts in ((network.sig, [network.sig.fold_context(f_z)]), (network.ins, [])):
            for plane in range(model.planes):
                context = model.contexts(x, [plane])[0]
                own = signs(bit(x, model.first_plane + plane))
                for step in range(len(STEPS)):
                    model.parameters_of(plane, step, [*([] if context is None else [context]), *parts], own, x)

    return run


def peak() -> float:
    """Largest memory of this process so far in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def assert_equal(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> None:
    """Raise `CbenchError` where a picture came back changed."""
    if not all(map(np.array_equal, found, wanted)):
        raise CbenchError("a picture was decoded to something else")


if __name__ == "__main__":
    sys.exit(main())
