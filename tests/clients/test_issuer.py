"""Tokens of another service, as distribution 2 and 3 are told to take them, with real clients."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import forging
import pytest
from accounts import PASSWORD
from authority import Authority
from images import run
from issuer import Issuer, serving
from logins import Docker, Environment, Podman, Skopeo, Tool
from running import Running, running
from sites import trusted
from tools import require_tool


@pytest.fixture(scope="module", params=["distribution 2", "distribution 3", "x5c"])
def issuer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Issuer, dict[str, str]]]:
    """An issuer, and what the registry is told about its keys."""
    directory = tmp_path_factory.mktemp("issuer")
    certified = forging.Certified("issuer", days=(-1000, 1000))
    bundle = directory / "bundle.pem"
    bundle.write_bytes(certified.pem)
    options, header = {"rootcertbundle": str(bundle)}, {"kid": forging.libtrust(certified.key)}
    if request.param == "x5c":
        header = {"x5c": [certified.x5c]}  # type: ignore[dict-item]
    elif request.param == "distribution 3":
        kid = forging.thumbprint(certified.key)
        path = forging.write_jwks(directory / "keys", forging.jwk(certified.key, kid=kid))
        options, header = {"jwks": str(path)}, {"kid": kid}
    with serving(Issuer(certified.key, header, {"alice": PASSWORD})) as found:
        yield found, options


@pytest.fixture(scope="module")
def registry(
    issuer: tuple[Issuer, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A registry that sends its clients to that issuer."""
    directory = tmp_path_factory.mktemp("registry")
    token = {
        "realm": issuer[0].realm,
        "service": forging.SERVICE,
        "issuer": forging.ISSUER,
        **issuer[1],
    }
    tls = Authority(directory / "tls").issue("server")
    with (
        running(directory, tls=tls, settings={"auth": {"token": token}}) as found,
        trusted(found.host, tls.authority),
    ):
        yield found
        assert "error.traceback" not in found.log()


@pytest.mark.parametrize("kind", [Skopeo, Podman, Docker])
def test_an_issuer_that_is_not_ours(
    request: pytest.FixtureRequest,
    issuer: tuple[Issuer, dict[str, str]],
    registry: Running,
    kind: type[Tool],
    environment: Environment,
    small: Path,
    scratch: Path,
) -> None:
    if kind is Docker:
        environment = request.getfixturevalue("dockerd")
    tool = kind(registry, environment, Path(tempfile.mkdtemp(dir=scratch)))
    name = kind.__name__.lower()
    public, private = (f"{registry.host}/{each}/{name}:1" for each in ("public", "private"))
    words = ["--format", "v2s2", "--dest-creds", f"alice:{PASSWORD}"]
    image = [f"oci:{small}:latest", f"docker://{public}"]
    run(require_tool("skopeo"), "copy", *words, *image, env=environment)
    tool.pull(public)
    with pytest.raises(AssertionError):
        tool.push(public, private)
    with pytest.raises(AssertionError):
        tool.login("alice", "wrong")
    tool.login("alice", PASSWORD)
    tool.push(public, private)
    tool.pull(private)
    tool.logout()
    with pytest.raises(AssertionError):
        tool.pull(private)
    scopes = {scope for query in issuer[0].asked for scope in query.get("scope", ())}
    either = {f"repository:private/{name}:{actions}" for actions in ("pull,push", "push,pull")}
    assert either & scopes
    assert f"repository:public/{name}:pull" in scopes
