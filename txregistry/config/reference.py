"""The sample file and the reference page, written from the settings classes.

``python -m txregistry.config.reference --write`` writes both into a checkout.
May import other modules of this room and the built-in makers.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from attrs import NOTHING, has

from ..auth.certificate_maker import CertificateMaker
from ..auth.cred_maker import CredMaker
from ..auth.external_maker import TokenMaker
from ..auth.htpasswd_maker import HtpasswdMaker
from ..auth.ldap_maker import LdapMaker
from ..auth.oidc_maker import OidcMaker
from ..auth.settings import Auth
from ..auth.silly_maker import SillyMaker
from ..interfaces import IMaker
from ..model.options import METADATA_KEY, Duration, HookAddress, Secret, Size, Workers
from ..reporters.bugsnag_maker import BugsnagMaker
from ..reporters.newrelic_maker import NewRelicMaker
from ..storage.azure_maker import AzureMaker
from ..storage.makers import FilesystemMaker, MemoryMaker
from ..storage.s3_settings import S3Maker
from .settings import Settings, Storage
from .structuring import _optional, default_of, options_of

MAKERS = (FilesystemMaker(), MemoryMaker(), AzureMaker(), S3Maker())

AUTHENTICATORS = (
    HtpasswdMaker(),
    LdapMaker(),
    TokenMaker(),
    OidcMaker(),
    CertificateMaker(),
    CredMaker(),
    SillyMaker(),
)

REPORTERS = (NewRelicMaker(), BugsnagMaker())

MASK = "(hidden)"
"""In place of a secret."""

SECRETS = ("password",)
"""Keys in mappings of any content that hold one."""

SAMPLE_HEAD = """\
# The configuration of txregistry. The shape is that of CNCF distribution; every option can be
# overridden by the environment: http.addr is REGISTRY_HTTP_ADDR. Options that are commented out
# show their defaults. The reference page explains each of them.
version: 0.1

storage:
  # One storage driver. This one keeps everything on the local disk.
  filesystem:
    # The directory that everything is stored in; made if it is not there.
    rootdirectory: registry-data
  delete:
    # Allow clients to delete tags, manifests and blobs.
    enabled: true
"""

AUTH_HEAD = """\
# Who may come in. Without this section everybody who reaches the registry may.
# auth:
#   # A file of names and hashed passwords, as "htpasswd -B -c htpasswd alice" makes it.
"""

REFERENCE_HEAD = """\
.. This page is written by "python -m txregistry.config.reference --write".

Configuration
=============

The configuration is a YAML file in the shape of CNCF distribution's. Every option can be
overridden by a variable of the environment: ``REGISTRY_`` and the option's path in upper case,
joined by ``_``, as in ``REGISTRY_HTTP_ADDR``; its value is read as YAML. Elements of a list of
sections are named by their number, as in ``REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL``; one may be
added behind the last. Secrets may be given as files, as in ``REGISTRY_HTTP_SECRET_FILE``. Without
a file the packaged sample is used, which ``REGISTRY_CONFIGURATION_PATH`` replaces.

Relative paths are relative to the file's directory. Durations are written ``10s``, ``1h30m`` or
``168h``, sizes ``4MiB`` or ``50GiB``. ``txregistry check-config`` tells every mistake at once;
``txregistry show-config --origins`` tells what is in force and where it comes from.

``version`` (required)
    Has to be ``0.1``.
"""


def sample_file() -> str:
    """The sample: a working configuration, with everything else commented out."""
    lines = [SAMPLE_HEAD.rstrip()]
    lines += [f"  # {line}".rstrip() for line in _sample(Storage, 0) if line]
    lines += ["", *AUTH_HEAD.splitlines()]
    lines += [f"# {line}".rstrip() for line in _sample_of(HtpasswdMaker(), 1)]
    lines += [f"# {line}".rstrip() for line in _sample(Auth, 1)]
    for name, attribute in options_of(Settings).items():
        lines.append("")
        lines += [
            f"# {line}" for line in textwrap.wrap(attribute.metadata[METADATA_KEY]["doc"], 98)
        ]
        inner = _optional(get_type_hints(Settings)[name])
        if not has(inner):
            lines.append(f"# {name}: {written(attribute, inner)}")
            continue
        lines.append(f"# {name}:")
        lines += [f"# {line}".rstrip() for line in _sample(inner, 1) if line]
    return "\n".join(lines) + "\n"


def _sample_of(maker: IMaker, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{maker.name}:"
    yield from _sample(maker.settings, depth + 1)


def _sample(settings: type, depth: int) -> Iterator[str]:
    indent = "  " * depth
    hints = get_type_hints(settings)
    for name, attribute in options_of(settings).items():
        if settings is Storage and name == "delete":
            continue
        details = attribute.metadata[METADATA_KEY]
        for line in textwrap.wrap(details["doc"], 90 - len(indent)):
            yield f"{indent}# {line}"
        inner = _optional(hints[name])
        if has(inner):
            yield f"{indent}{name}:"
            yield from _sample(inner, depth + 1)
            continue
        shown = details["example"] if details["example"] is not None else written(attribute, inner)
        yield f"{indent}{name}: {shown}"


def reference_page() -> str:
    """The reference page, in reStructuredText."""
    parts = [REFERENCE_HEAD, *_reference(Settings, "")]
    for maker in MAKERS:
        text = f"The storage driver for {maker.summary}."
        parts += _plugin(maker, f"storage.{maker.name}", text)
    parts += _sections(Storage, "storage")
    for authenticator in AUTHENTICATORS:
        text = f"Authentication by {authenticator.summary}."
        parts += _plugin(authenticator, f"auth.{authenticator.name}", text)
    parts += _sections(Auth, "auth")
    for reporter in REPORTERS:
        text = f"A reporter: {reporter.summary} (:doc:`reporting`)."
        parts += _plugin(reporter, f"reporting.{reporter.name}", text)
    for name in options_of(Settings):
        inner = _optional(get_type_hints(Settings)[name])
        if has(inner):
            parts += _sections(inner, name)
    return "\n".join(parts)


def _plugin(maker: IMaker, key: str, text: str) -> Iterator[str]:
    """The section of a plugin."""
    yield _heading(key)
    yield f"{text}\n"
    yield from _reference(maker.settings, key)
    yield from _inside(maker.settings, key)


def _sections(settings: type, key: str) -> Iterator[str]:
    """A section and, behind it, those inside it."""
    own = list(_reference(settings, key))
    if own:
        yield _heading(key)
        yield (settings.__doc__ or "").strip().splitlines()[0] + "\n"
        yield from own
    yield from _inside(settings, key)


def _inside(settings: type, key: str) -> Iterator[str]:
    """The sections inside a section."""
    hints = get_type_hints(settings)
    for name in options_of(settings):
        inner = _optional(hints[name])
        if has(inner):
            yield from _sections(inner, f"{key}.{name}")
        elif get_origin(inner) is Sequence and has(get_args(inner)[0]):
            yield from _sections(get_args(inner)[0], f"{key}.{name}[]")


def _reference(settings: type, key: str) -> Iterator[str]:
    hints = get_type_hints(settings)
    for name, attribute in options_of(settings).items():
        inner = _optional(hints[name])
        if has(inner):
            continue
        shown = written(attribute, inner)
        default = f"default ``{shown}``" if shown else "no default"
        if attribute.default is NOTHING:
            default = "required"
        text = textwrap.indent(
            "\n".join(textwrap.wrap(attribute.metadata[METADATA_KEY]["doc"], 92)), "    "
        )
        dotted = f"{key}.{name}" if key else name
        yield f"``{dotted}`` ({default})\n{text}\n"


def _heading(text: str) -> str:
    return f"\n{text}\n{'-' * len(text)}\n"


def written(attribute: Any, kind: Any) -> str:
    """A default as it is written in the file; empty where there is none."""
    value = default_of(attribute)
    if value is NOTHING or value is None:
        return ""
    return written_value(value, kind)


MASK = "(hidden)"
"""What is shown in the place of a secret."""


def secret(kind: Any) -> bool:
    """Whether values of a type are secrets, or hold some."""
    return kind is Secret or any(map(secret, get_args(kind)))


def written_value(value: Any, kind: Any = None) -> str:
    """A value as it is written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind is Duration:
        return _duration(value)
    if kind is Size:
        return _size(value)
    if kind is Workers and value == 0:
        return "auto"
    if isinstance(value, Mapping) and not value:
        return "{}"
    if isinstance(value, Sequence) and not isinstance(value, str) and not value:
        return "[]"
    if kind is HookAddress or secret(kind):
        return str(_masked(value, kind))
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, str):
        return json.dumps(_plain(value))
    return _without_password(str(value))


def _plain(value: Any) -> Any:
    """What JSON, and so YAML, can write."""
    if has(type(value)):
        hints = get_type_hints(type(value))
        values = {name: getattr(value, name) for name in options_of(type(value))}
        return {
            name: _masked(item, hints[name]) if item else _plain(item)
            for name, item in values.items()
        }
    if isinstance(value, Mapping):
        return {str(n): MASK if n in SECRETS else _plain(item) for n, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, (int, float, bool)) or value is None:
        return value
    return _without_password(str(value))


def _masked(value: Any, kind: Any) -> Any:
    """A value of an option, in which nothing is left that is not for everybody."""
    if kind is HookAddress:
        return _only_host(value)
    return MASK if secret(kind) else _plain(value)


def _only_host(address: str) -> str:
    """An address without what is behind its host, where that is more than a slash."""
    found = re.fullmatch(r"([^/]*//[^/?#]*)(.*)", _without_password(address), re.DOTALL)
    if found is None or found[2] in ("", "/"):
        return _without_password(address)
    return f"{found[1]}/{MASK}"


def _without_password(text: str) -> str:
    """A text in which the credentials of an address are hidden, if it is one that has some."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]+@", rf"\1{MASK}@", text)


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


def _size(size: int) -> str:
    for unit, length in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= length and size % length == 0:
            return f"{size // length}{unit}"
    return str(size)


def outputs(root: Path) -> dict[Path, str]:
    """The generated files of a checkout."""
    return {
        root / "etc" / "config.yml": sample_file(),
        root / "txregistry" / "config" / "sample.yml": sample_file(),
        root / "docs" / "configuration.rst": reference_page(),
    }


def main(arguments: Sequence[str]) -> int:
    """Write the files, or print the reference page."""
    if list(arguments) != ["--write"]:
        print(reference_page())
        return 0
    for path, text in outputs(Path(__file__).parents[2]).items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
