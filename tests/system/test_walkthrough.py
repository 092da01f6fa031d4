"""The page "Coming from distribution", executed: Debian's registry, its configuration, its data."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml
from distribution import distribution
from images import make_layout, run
from running import free_port
from tools import missing, require_tool
from walkthrough import fake_systemctl, run_script, script

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-distribution.rst"
DEBIAN = Path("/etc/docker/registry/config.yml")


def test_coming_from_distribution(tmp_path: Path) -> None:
    registry = require_tool("docker-registry")
    skopeo = require_tool("skopeo")
    require_tool("curl")
    require_tool("txregistry")
    if not DEBIAN.exists():
        missing(str(DEBIAN))
    data = tmp_path / "data"
    with distribution(tmp_path / "theirs", data) as theirs:
        layout = make_layout(tmp_path, [10_000])
        for name in ("team/app:1", "other:latest"):
            run(
                *(skopeo, "copy", "--dest-tls-verify=false", f"oci:{layout}:latest"),
                f"docker://{theirs.host}/{name}",
            )
    host = f"127.0.0.1:{free_port()}"
    settings = yaml.safe_load(DEBIAN.read_text())
    settings["storage"]["filesystem"]["rootdirectory"] = str(data)
    settings["http"]["addr"] = host
    del settings["auth"]
    config = tmp_path / "config.yml"
    config.write_text(yaml.safe_dump(settings))
    units, work = tmp_path / "units", tmp_path / "work"
    units.mkdir()
    work.mkdir()
    environment = fake_systemctl(units, "docker-registry", f"{registry} serve {config}")
    systemctl = str(units / "systemctl")
    values = {"config": config, "units": units, "host": host, "image": "team/app:1"}
    text = script(PAGE, {key: str(value) for key, value in values.items()})
    assert text.count("systemctl restart") == 2
    subprocess.run([systemctl, "start", "docker-registry"], env=environment, check=True)
    try:
        wait = f"curl -fsS --retry 20 --retry-connrefused http://{host}/v2/\n"
        done = run_script(wait + text, work, environment)
        log = (units / "docker-registry.log").read_text()
        assert done.returncode == 0, done.stdout + done.stderr + log
        subprocess.run([systemctl, "start", "docker-registry"], env=environment, check=True)
        tags = run_script(f"{wait}curl -fsS http://{host}/v2/_catalog", work, environment)
        names = json.loads(tags.stdout.removeprefix("{}"))["repositories"]
        assert sorted(names) == ["other", "team/app", "team/later", "team/moved"]
    finally:
        subprocess.run([systemctl, "stop", "docker-registry"], env=environment, check=True)
    assert "0 blobs and 0 manifests eligible for deletion" in done.stdout
    assert "0 wrong, 0 mended" in done.stdout
