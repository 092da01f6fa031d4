"""Real images made without a network: OCI layouts by umoci, small and large."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tools import require_tool

LARGE = 150 * 1024**2


def run(*command: str | Path, **options: object) -> str:
    """Run a program to its end.

    :return: what it printed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    output: str = done.stdout + done.stderr
    if done.returncode:
        raise AssertionError(
            f"{' '.join(map(str, command))}\nended with {done.returncode}\n{output}"
        )
    return output


def make_layout(directory: Path, layers: list[int]) -> Path:
    """An OCI layout with an image tagged ``latest``.

    :param layers: the size of each layer in bytes, random so that nothing compresses.
    """
    umoci = require_tool("umoci")
    layout = directory / "layout"
    image = f"{layout}:latest"
    run(umoci, "init", "--layout", layout)
    run(umoci, "new", "--image", image)
    for number, size in enumerate(layers):
        content = directory / "content"
        with content.open("wb") as file:
            for start in range(0, size, 1024**2):
                file.write(os.urandom(min(1024**2, size - start)))
        run(umoci, "insert", "--image", image, content, f"/data/{number}")
        content.unlink()
    run(umoci, "config", "--image", image, "--config.cmd", "/hello")
    run(umoci, "gc", "--layout", layout)
    return layout


def blobs(layout: Path) -> dict[str, int]:
    """Digests and sizes of everything an image of a layout consists of, without the index."""
    return {
        f"sha256:{path.name}": path.stat().st_size
        for path in (layout / "blobs" / "sha256").iterdir()
    }


def layer_digests(layout: Path) -> list[str]:
    """The layers of the image of a layout, and its config."""
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"].partition(":")[2]
    manifest = json.loads((layout / "blobs" / "sha256" / digest).read_text())
    return [layer["digest"] for layer in manifest["layers"]] + [manifest["config"]["digest"]]
