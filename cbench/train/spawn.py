"""Training processes that Lightning starts itself: they must pass the guard before they unpickle anything of its."""

from __future__ import annotations

from cbench.nn.torchvision_guard import guard

guard()

from pytorch_lightning.strategies import DDPStrategy  # noqa: E402  (needs the guard)
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher  # noqa: E402


class _Launcher(_MultiProcessingLauncher):
    """The first that a new process unpickles: to find this class it imports this module, which runs the guard."""


class SpawnStrategy(DDPStrategy):
    """Distributed training in processes that are spawned."""

    def _configure_launcher(self) -> None:
        self._launcher = _Launcher(self, start_method="spawn")
