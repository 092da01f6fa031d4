"""Installing: wheel, source distribution, checkout, and a plugin package beside each of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accounts import PASSWORD, basic
from images import run
from running import Running, free_port

CHECKOUT = Path(__file__).parents[2]
SAMPLES = [Path(__file__).parent / name for name in ("sample_driver", "sample_access")]
"""Packages of plugins, as somebody else would write them."""


def interpreters() -> list[str]:
    """Each Python from 3.11 that is on this machine, once; the running one first."""
    candidates = [sys.executable]
    for minor in (11, 12, 13):
        name = f"python3.{minor}"
        found = [
            shutil.which(name),
            *map(str, (Path.home() / ".pyenv/versions").glob(f"*/bin/{name}")),
        ]
        candidates += [path for path in found if path]
    versions: dict[str, str] = {}
    for path in candidates:
        code = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            versions.setdefault(done.stdout.strip(), path)
    return [path for version, path in sorted(versions.items())]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that building leaves no traces in it."""
    target = tmp_path_factory.mktemp("source") / "txregistry"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__", "_build")
    shutil.copytree(CHECKOUT, target, ignore=ignored)
    return target


@pytest.fixture(scope="session")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the source distribution."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", target, source)
    return {"wheel": next(target.glob("*.whl")), "sdist": next(target.glob("*.tar.gz"))}


def environment(interpreter: str, directory: Path, *packages: str | Path) -> Path:
    """A fresh virtual environment with packages; the directory of its programs."""
    run(interpreter, "-m", "venv", directory)
    programs = directory / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--upgrade", "pip", "setuptools")
    for package in packages:
        run(*pip, *(["-e"] if package == "-e" else []), package)
    return programs


def check(programs: Path, directory: Path) -> None:
    """The command is listed, the packages are found, and what they bring serves."""
    directory.mkdir(exist_ok=True)
    assert "txregistry" in run(programs / "twistd", "--help", cwd=directory)
    listed = run(programs / "txregistry", "plugins", cwd=directory)
    for name in ("filesystem", "inmemory", "onefile"):
        assert f"storage  {name}" in listed
    assert "auth     crew" in listed
    assert "access   homes" in listed
    assert run(programs / "txregistry", "--version").startswith("txregistry 0")
    registry = Running(directory, driver="onefile", port=free_port())
    registry.settings = {
        "storage": {"onefile": {"path": str(directory / "everything")}},
        "auth": {"crew": {"names": ["alice"], "password": PASSWORD}},
        "access": {"homes": {}},
    }
    config = registry.configure()
    explain = [programs / "txregistry", "access", "explain", "--config", config]
    assert "home/alice/ is theirs" in run(*explain, "alice", "push", "home/alice/app")
    command = [programs / "txregistry", "serve", config]
    registry.process = subprocess.Popen(
        command, cwd=directory, stdout=registry.log_path.open("wb"), stderr=subprocess.STDOUT
    )
    try:
        registry.wait_until_ready()
        for repository, account, status in (
            ("home/alice/app", basic("alice"), 202),
            ("home/bob/app", basic("alice"), 403),
            ("home/alice/app", basic("alice", "wrong"), 401),
            ("home/alice/app", basic("bob"), 401),
        ):
            path = f"/v2/{repository}/blobs/uploads/"
            assert registry.request("POST", path, headers=account)[0] == status
    finally:
        registry.stop()


def copies_of_samples(directory: Path) -> list[Path]:
    """The sample packages, where building may leave traces."""
    return [Path(shutil.copytree(sample, directory / sample.name)) for sample in SAMPLES]


@pytest.mark.parametrize("interpreter", interpreters())
def test_wheel(built: dict[str, Path], tmp_path: Path, interpreter: str) -> None:
    samples = copies_of_samples(tmp_path)
    programs = environment(interpreter, tmp_path / "venv", built["wheel"], *samples)
    check(programs, tmp_path / "run")


def test_plugins_keep_the_contracts(built: dict[str, Path], tmp_path: Path) -> None:
    """A plugin's author runs the contracts with what the package brings."""
    samples = copies_of_samples(tmp_path)
    wheel = f"{built['wheel']}[testing]"
    programs = environment(sys.executable, tmp_path / "venv", wheel, *samples)
    pytest_run = ["-m", "pytest", "--rootdir", tmp_path, "--basetemp", tmp_path / "scratch"]
    report = run(programs / "python", *pytest_run, *samples, cwd=tmp_path)
    assert re.search(r"\d\d passed", report)
    assert "test_driver.py" in report
    assert "test_access.py" in report
    assert "failed" not in report


def test_source_distribution(built: dict[str, Path], tmp_path: Path) -> None:
    samples = copies_of_samples(tmp_path)
    programs = environment(sys.executable, tmp_path / "venv", built["sdist"], *samples)
    check(programs, tmp_path / "run")


def test_editable(source: Path, tmp_path: Path) -> None:
    samples = copies_of_samples(tmp_path)
    programs = environment(sys.executable, tmp_path / "venv")
    pip = [programs / "python", "-m", "pip", "install", "--quiet"]
    run(*pip, "-e", source)
    for sample in samples:
        run(*pip, "-e", sample)
    check(programs, tmp_path / "run")


def test_content(built: dict[str, Path]) -> None:
    """Nothing that would overwrite Twisted's own files, and everything that is needed."""
    import zipfile

    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert not [name for name in names if name.startswith("twisted/") and "__init__" in name]
    assert "twisted/plugins/txregistry_dropin.py" in names
    assert "txregistry/config/sample.yml" in names
    assert "txregistry/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


def test_broken_plugins_are_told(tmp_path: Path) -> None:
    """A plugin module that cannot be imported is named, and does no harm."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "broken_dropin.py").write_text("from txregistry.nowhere import nothing\n")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "txregistry", "plugins"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "broken_dropin.py" in done.stdout
    assert "No module named 'txregistry.nowhere'" in done.stdout
    assert "filesystem" in done.stdout


def test_txaws_is_still_of_another_age() -> None:
    """The reason why it is no dependency: it would come as Python 2 code."""
    import importlib.metadata

    requirements = importlib.metadata.requires("txregistry") or []
    assert not [each for each in requirements if each.lower().startswith("txaws")]
