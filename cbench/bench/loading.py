"""From what the user names - a config file, a function in it, or a run folder - to an `Experiment`."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from cbench.bench.config import RUN_WEIGHTS, Experiment
from cbench.bench.overrides import MODULE_PREFIX, override, suggestion
from cbench.errors import CbenchError, ConfigError, DataNotFoundError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Loaded:
    """An experiment and how to load it again."""

    experiment: Experiment
    reference: str
    """Config file and function, such as "configs/quickstart.py:config"."""
    overrides: tuple[str, ...] = ()
    """Such as "train.lr=2e-4"."""
    folder: Path | None = None
    """The run folder that was named instead of a config; its weights are tested again."""


def load(reference: str, overrides: Sequence[str] = ()) -> Loaded:
    """The experiment that `reference` names, with `overrides` applied.

    Args:
        reference: "file.py", "file.py:function", or a run folder.
        overrides: "field.field=value", on top of those that a run folder records.

    Raises:
        DataNotFoundError: no such file or folder.
        ConfigError: the file does not load, has no such function, or an override does not fit.
    """
    path = Path(reference)
    if path.is_dir():
        return _load_folder(path, overrides)
    file, _, function = reference.partition(".py:")
    return _load_file(Path(file + ".py") if function else path, function, overrides)


def experiments_in(path: Path) -> dict[str, Callable[[], Experiment]]:
    """The public functions without required arguments in a config file, by name: one experiment each.

    A function that is annotated to return something else than `Experiment` is a helper.
    """
    module = _import_file(path)
    found: dict[str, Callable[[], Experiment]] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or not inspect.isfunction(value) or value.__module__ != module.__name__:
            continue
        signature = inspect.signature(value)
        required = [p for p in signature.parameters.values() if p.default is p.empty]
        returns = signature.return_annotation
        if not required and returns in (Experiment, Experiment.__name__, inspect.Signature.empty):
            found[name] = value
    return found


def _load_file(path: Path, function: str, overrides: Sequence[str]) -> Loaded:
    if not path.is_file():
        raise DataNotFoundError(f"there is no config file or run folder {path}")
    if path.suffix != ".py":
        raise ConfigError(f"a config is a Python file or a run folder, unlike {path}")
    functions = experiments_in(path)
    name = function or ("config" if "config" in functions else "")
    if not name and len(functions) == 1:
        name = next(iter(functions))
    if name not in functions:
        there = ", ".join(functions) or "none"
        problem = f"no experiment {name!r}{suggestion(name, functions)}" if name else "several experiments"
        raise ConfigError(f"{path} has {problem}; name one of its functions as {path}:FUNCTION ({there})")
    try:
        experiment = functions[name]()
    except CbenchError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}:{name} failed with {type(error).__name__}: {error}") from error
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"{path}:{name} returned {type(experiment).__name__}, not an Experiment")
    for text in overrides:
        experiment = override(experiment, text)
    return Loaded(experiment, f"{_portable(path)}:{name}", tuple(overrides))


def _load_folder(folder: Path, overrides: Sequence[str]) -> Loaded:
    """A run folder: its config again, with the weights that it holds and without training."""
    record = folder / CONFIG_FILE
    if not record.is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no {CONFIG_FILE}")
    try:
        saved = json.loads(record.read_text())
        reference, recorded = saved["reference"], saved["overrides"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{record} cannot be read ({error})") from error
    if reference is None:
        raise ConfigError(f"{folder} was made from Python, not from a config file; name the config instead")
    file, _, function = reference.rpartition(":")
    loaded = _load_file(_find(Path(file), folder), function, [*recorded, *overrides])
    weights = folder / WEIGHTS_FILE
    codecs = []
    for spec in loaded.experiment.codecs:
        if spec.weights == RUN_WEIGHTS:
            if not weights.is_file():
                raise DataNotFoundError(f"{folder} holds no {WEIGHTS_FILE}, which {spec.title} needs")
            spec = replace(spec, weights=str(weights))
        codecs.append(spec)
    experiment = replace(loaded.experiment, codecs=tuple(codecs), train=None)
    return replace(loaded, experiment=experiment, folder=folder)


def _find(file: Path, folder: Path) -> Path:
    """A recorded config file: from here, or from a folder above the run folder."""
    places = [file, *(parent / file for parent in folder.resolve().parents)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataNotFoundError(f"the config file {file} of the run {folder} is not there any more")
    return found


def _portable(path: Path) -> str:
    """Relative to the working folder where the file is below it."""
    full, here = path.resolve(), Path.cwd()
    return (full.relative_to(here) if full.is_relative_to(here) else full).as_posix()


def _import_file(path: Path) -> ModuleType:
    """Run a config file as a module of its own; files beside it can be imported by their names."""
    name = MODULE_PREFIX + path.stem
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ConfigError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Known by name, so that dataclasses and worker processes find what the file defines.
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        specification.loader.exec_module(module)
    except CbenchError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} does not load ({type(error).__name__}: {error})") from error
    finally:
        sys.path.pop(0)
    return module
