"""Files that are either complete under their name or not there at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cbench.errors import CbenchError, DataNotFoundError


def check_free(path: Path, force: bool = False) -> None:
    """Raise `CbenchError` when `path` may not be written: a folder, or an existing file without `force`."""
    if path.is_dir():
        raise CbenchError(f"{path} is a folder, not a file to write")
    if not force and (path.exists() or path.is_symlink()):
        raise CbenchError(f"{path} already exists and is not overwritten (use force)")
    if not path.parent.is_dir():
        raise DataNotFoundError(f"the folder {path.parent} of the output file {path.name} does not exist")


@contextmanager
def atomic_write(path: Path | str, force: bool = False) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it to `path` if the block ends well, else remove it.

    The block creates the file at the temporary path, for instance with `temporary.write_bytes(data)`. A
    reader never sees half a file, and an interrupted program leaves an older file under that name untouched.

    Raises:
        CbenchError: the file exists and `force` is false, before the block runs or when it has ended.
        DataNotFoundError: the folder does not exist.
    """
    path = Path(path)
    check_free(path, force)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        # A second look: the block may have taken long, and a rename would replace what came in between.
        check_free(path, force)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
