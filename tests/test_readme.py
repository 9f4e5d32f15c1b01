"""README's Python blocks run, its commands exist, and CI runs the test command word for word."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_block_runs(block, tmp_path):
    (tmp_path / "block.py").write_text(block, encoding="utf-8")
    command = [sys.executable, tmp_path / "block.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shell_commands_exist():
    from cbench.cli import main

    lines = re.findall(r"^(cbench \w+|python tools/\S+ \S+)", README, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        words = shlex.split(line)
        if words[0] == "cbench":
            with pytest.raises(SystemExit) as end:
                main([words[1], "--help"])
            assert end.value.code == 0
        else:
            path, _, function = words[2].partition(":")
            if path.startswith("configs/"):
                text = (ROOT / path).read_text(encoding="utf-8")
                assert f"def {function or 'config'}(" in text, words[2]


def test_two_set_up_commands():
    for mark in ("quickstart", "test"):
        block = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)\n```", README)
        assert block and block[1].startswith("python3 -m venv .venv && ")
    assert "sed -n '/^<!-- test -->$/,/^```$/p' README.md" in (ROOT / ".ci/run").read_text(encoding="utf-8")
