"""What the environment says about OpenTelemetry, in its standard variables.

It is off unless an exporter or an endpoint is named. May import attrs and the standard library, and
the settings of this room.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

from .sampling import SAMPLERS, Sampler

PREFIX = "OTEL_EXPORTER_OTLP_"
SIGNALS = {"traces": "v1/traces", "metrics": "v1/metrics"}
DEFAULT_ENDPOINT = "http://localhost:4318"
SERVICE = "txregistry"

JSON, BINARY = "http/json", "http/protobuf"

REFUSED = ("CLIENT_KEY", "CLIENT_CERTIFICATE")
"""Parts of variables for what is not supported, and nobody would notice to be missing."""


@frozen
class Export:
    """Where one of the signals goes.

    :param timeout: seconds.
    :param authorities: a file of certificates to trust, in the place of the system's.
    :param binary: whether bodies are in the protocol's binary form, in place of JSON.
    """

    url: str
    headers: Mapping[str, str]
    timeout: float = 10.0
    compress: bool = False
    authorities: Path | None = None
    binary: bool = False


@frozen
class Telemetry:
    """What is told; a signal that is None is not.

    :param resource: attributes of this process, as far as they are given.
    :param interval: seconds between two exports of metrics.
    """

    traces: Export | None = None
    metrics: Export | None = None
    resource: Mapping[str, str] = field(factory=dict)
    sampler: Sampler = SAMPLERS["parentbased_always_on"](1.0)
    interval: float = 60.0


def telemetry_of(environ: Mapping[str, str]) -> Telemetry:
    """Read the variables. Those that are empty count as missing.

    :raises ValueError: one has no meaning, or one that is not supported.
    """
    found = _Variables({name: text for name, text in environ.items() if text.strip()})
    if found.text("OTEL_SDK_DISABLED", "").lower() == "true":
        return Telemetry()
    traces, metrics = found.export("traces"), found.export("metrics")
    if traces is None and metrics is None:
        return Telemetry()
    resource = found.pairs("OTEL_RESOURCE_ATTRIBUTES")
    resource["service.name"] = found.text(
        "OTEL_SERVICE_NAME", resource.get("service.name", SERVICE)
    )
    return Telemetry(
        traces,
        metrics,
        resource,
        found.sampler(),
        found.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
    )


@frozen
class _Variables:
    """The variables that are set."""

    environ: Mapping[str, str]

    def text(self, name: str, default: str) -> str:
        return self.environ.get(name, default).strip()

    def signal(self, signal: str, part: str) -> tuple[str, str]:
        """The variable of a signal, or else the one for all of them: its name and its text."""
        own, common = f"{PREFIX}{signal.upper()}_{part}", PREFIX + part
        name = own if own in self.environ else common
        return name, self.text(name, "")

    def export(self, signal: str) -> Export | None:
        """Where a signal goes; None if it is not wanted."""
        name, endpoint = self.signal(signal, "ENDPOINT")
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        exporter = self.text(variable, "otlp" if endpoint else "none")
        if exporter not in ("otlp", "none"):
            raise ValueError(f"{variable} has to be otlp or none, and is {exporter!r}")
        if exporter == "none":
            return None
        if name == PREFIX + "ENDPOINT":
            endpoint = f"{(endpoint or DEFAULT_ENDPOINT).rstrip('/')}/{SIGNALS[signal]}"
        _check_address(name, endpoint)
        protocol = self._protocol(signal)
        for part in REFUSED:
            name, given = self.signal(signal, part)
            if given:
                raise ValueError(f"{name} is not supported: remove it")
        name, compression = self.signal(signal, "COMPRESSION")
        if compression not in ("", "none", "gzip"):
            raise ValueError(f"{name} has to be gzip or none, and is {compression!r}")
        certificate = self.signal(signal, "CERTIFICATE")[1]
        headers = self.signal(signal, "HEADERS")[0]
        return Export(
            endpoint,
            _checked_fields(headers, self.pairs(headers)),
            self.milliseconds(self.signal(signal, "TIMEOUT")[0], 10_000),
            compression == "gzip",
            Path(certificate) if certificate else None,
            protocol == BINARY,
        )

    def _protocol(self, signal: str) -> str:
        name, protocol = self.signal(signal, "PROTOCOL")
        if protocol not in ("", JSON, BINARY):
            raise ValueError(f"{name} has to be {JSON} or {BINARY}, and is {protocol!r}")
        name = f"{PREFIX}METRICS_TEMPORALITY_PREFERENCE"
        if self.text(name, "cumulative").lower() != "cumulative":
            raise ValueError(f"{name}: only cumulative is supported")
        return protocol or JSON

    def milliseconds(self, name: str, default: int) -> float:
        """A time, in seconds."""
        text = self.text(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
            raise ValueError(f"{name} has to be a number of milliseconds, and is {text!r}")
        return int(text) / 1000

    def pairs(self, name: str) -> dict[str, str]:
        """A list such as ``a=1,b=2``, percent-encoded."""
        found = {}
        for item in self.text(name, "").split(","):
            if not item.strip():
                continue
            key, equals, value = item.partition("=")
            if not equals or not key.strip():
                # The value may be a secret.
                raise ValueError(f"{name} has to be a list such as key=value,other=value")
            found[unquote(key.strip())] = unquote(value.strip())
        return found

    def sampler(self) -> Sampler:
        """Which traces are told."""
        name, text = "OTEL_TRACES_SAMPLER", self.text("OTEL_TRACES_SAMPLER", "")
        kind = text or "parentbased_always_on"
        if kind not in SAMPLERS:
            known = ", ".join(SAMPLERS)
            raise ValueError(f"{name} is {kind!r}; there are {known}")
        ratio = 1.0
        if kind.endswith("traceidratio"):
            name = "OTEL_TRACES_SAMPLER_ARG"
            try:
                ratio = float(self.text(name, "1"))
            except ValueError:
                ratio = -1.0
            if not 0 <= ratio <= 1:
                raise ValueError(f"{name} has to be a number from 0 to 1")
        return SAMPLERS[kind](ratio)


def _check_address(name: str, text: str) -> None:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in text or re.search(r"[^\x21-\x7e]", text):
        raise ValueError(f"{name} has to be an address such as {DEFAULT_ENDPOINT}")


def _checked_fields(name: str, fields: Mapping[str, str]) -> Mapping[str, str]:
    for field_name, text in fields.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", field_name):
            raise ValueError(f"{name}: {field_name!r} is no name of a header field")
        if re.search(r"[^\t\x20-\x7e]", text):
            raise ValueError(f"{name}: {field_name} has a character that headers cannot carry")
    return fields
