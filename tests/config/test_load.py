"""Loading the configuration: distribution's files, the environment, and every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from txregistry.auth.htpasswd_maker import HtpasswdMaker, HtpasswdSettings
from txregistry.config.load import ConfigurationMistakes, Loaded, load
from txregistry.config.show import shown
from txregistry.storage.makers import FilesystemMaker, MemoryMaker

MAKERS: Any = {maker.name: maker for maker in (FilesystemMaker(), MemoryMaker())}


def read(
    tmp_path: Path, text: str, environ: Mapping[str, str] | None = None, name: str = "config.yml"
) -> Loaded:
    """Load a text."""
    path = tmp_path / name
    path.write_text(text)
    return load(path, environ or {}, MAKERS)


def mistakes(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The mistakes of a text, without the directory."""
    with pytest.raises(ConfigurationMistakes) as caught:
        read(tmp_path, text, environ)
    return [str(mistake).replace(f"{tmp_path}/", "") for mistake in caught.value.mistakes]


DISTRIBUTION_2 = """
version: 0.1
log:
  level: debug
  fields: {service: registry, environment: development}
  accesslog: {disabled: true}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: /var/lib/registry, maxthreads: 100}
  delete: {enabled: true}
  maintenance:
    uploadpurging: {enabled: true, age: 168h, interval: 24h, dryrun: false}
    readonly: {enabled: false}
http:
  addr: :5000
  secret: asecretforlocaldevelopment
  headers:
    X-Content-Type-Options: [nosniff]
  http2: {disabled: false}
  draintimeout: 60s
health:
  storagedriver: {enabled: true, interval: 10s, threshold: 3}
redis: {addr: localhost:6379}
"""

DISTRIBUTION_3 = """
version: 0.1
log: {fields: {service: registry}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: /var/lib/registry}
  tag: {concurrencylimit: 8}
  redirect: {disable: true}
http:
  addr: :5000
  debug: {addr: ":5001", prometheus: {enabled: true, path: /metrics}}
  headers: {X-Content-Type-Options: [nosniff]}
  tls: {certificate: a.crt, key: a.key, minimumtls: tls1.3, clientauth: request-client-cert}
catalog: {maxentries: 500}
tags: {maxtags: 200}
validation:
  manifests:
    urls: {allow: ['^https?://([^/]+\\.)*example\\.com/']}
    indexes: {platforms: list, platformlist: [{architecture: amd64, os: linux}]}
health: {storagedriver: {enabled: true}}
"""


def test_a_file_of_distribution_2(tmp_path: Path) -> None:
    loaded = read(tmp_path, DISTRIBUTION_2)
    settings = loaded.settings
    assert settings.storage.driver == "filesystem"
    assert settings.storage.options.rootdirectory == Path("/var/lib/registry")
    assert settings.storage.delete.enabled
    assert settings.storage.maintenance.uploadpurging.age == 168 * 3600
    assert settings.http.draintimeout == 60
    assert settings.http.headers == {"X-Content-Type-Options": ("nosniff",)}
    assert settings.log.fields["environment"] == "development"
    assert settings.health.storagedriver.threshold == 3
    assert len(loaded.notices) == 3


def test_a_file_of_distribution_3(tmp_path: Path) -> None:
    settings = read(tmp_path, DISTRIBUTION_3).settings
    assert settings.http.tls.certificate == tmp_path / "a.crt"
    assert settings.http.tls.minimumtls == "tls1.3"
    assert settings.catalog.maxentries == 500
    indexes = settings.validation.manifests.indexes
    assert [(each.architecture, each.os) for each in indexes.platformlist] == [("amd64", "linux")]


def test_every_mistake_at_once(tmp_path: Path) -> None:
    text = """version: 0.2
log: {levle: debug, formatter: xml}
storge: {}
storage:
  filesytem: {}
  delete: {enabled: perhaps}
  maintenance: {uploadpurging: {age: soon}}
http:
  prefix: nope
  draintimeout: -3
  headers: {"a b": [x]}
  limits: {manifestsize: 4 megs, headercount: many}
  tls: {certificate: a.crt, clientauth: maybe}
  tls: {}
validation: {manifests: {urls: {allow: ["("]}}}
"""
    found = mistakes(tmp_path, text)
    assert found[0] == "config.yml:14: http.tls: is given twice"
    text = text.replace("  tls: {}\n", "")
    assert sorted(mistakes(tmp_path, text)) == sorted(
        [
            "config.yml:1: version: has to be 0.1",
            'config.yml:2: log.levle: unknown option; did you mean "level"?',
            "config.yml:2: log.formatter: has to be one of json, logstash, text",
            'config.yml:3: storge: unknown option; did you mean "storage"?',
            'config.yml:5: storage.filesytem: unknown option; did you mean "filesystem"?',
            "config.yml:6: storage.delete.enabled: has to be true or false",
            "config.yml:7: storage.maintenance.uploadpurging.age: has to be a duration such as "
            "10s, 1h30m or 168h",
            "config.yml:9: http.prefix: has to begin and end with '/'",
            "config.yml:10: http.draintimeout: has to be a duration such as 10s, 1h30m or 168h",
            "config.yml:11: http.headers: 'a b' is no name of a header field",
            "config.yml:12: http.limits.manifestsize: has to be a size such as 4MiB, 512KB or a "
            "number of bytes",
            "config.yml:12: http.limits.headercount: has to be a whole number from 0",
            "config.yml:13: http.tls.clientauth: has to be one of request-client-cert, "
            "require-and-verify-client-cert, require-any-client-cert, verify-client-cert-if-given",
            "config.yml:14: validation.manifests.urls.allow: '(' is no regular expression: "
            "missing ), unterminated subpattern at position 0",
        ]
    )


@pytest.mark.parametrize(
    "section",
    [
        "proxy: {remoteurl: https://registry.example}",
        "middleware: {}",
        "http: {tls: {letsencrypt: {cachefile: x}}}",
        "loglevel: debug",
    ],
)
def test_what_is_not_supported_is_refused_with_advice(tmp_path: Path, section: str) -> None:
    (found,) = mistakes(tmp_path, f"version: 0.1\n{section}\n")
    assert "not supported by this version" in found or "write log.level" in found


HOSTILE = [
    "version: 0.1\na: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n"
    + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
        for before, name in zip("bcdefgh", "cdefghi", strict=True)
    ),
    "[" * 5000,
    "version: !!python/object/apply:os.system ['true']",
    "version: !!python/name:os.system",
    "a: [1",
    "a: b: c",
    "\t- x",
    "- a\n- b\n",
    "just a text",
    "? [complex]\n: key\n",
    "version: 0.1\nhttp: 7\n",
    "\x00",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationMistakes, match="cannot be read"):
        load(tmp_path / "nowhere.yml", {}, MAKERS)


def test_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden\n")
    environ = {
        "REGISTRY_HTTP_ADDR": "127.0.0.1:7000",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "elsewhere",
        "REGISTRY_STORAGE_DELETE_ENABLED": "true",
        "REGISTRY_HTTP_HEADERS": "{X-A: [b, c]}",
        "REGISTRY_HTTP_TLS_CIPHERSUITES": "[A, B]",
        "REGISTRY_HTTP_SECRET_FILE": str(tmp_path / "secret"),
        "REGISTRY_LOG_FIELDS_WHERE": "here",
        "PATH": "/bin",
    }
    loaded = read(tmp_path, "version: 0.1\nhttp: {addr: ':1'}\n", environ)
    http = loaded.settings.http
    assert (http.addr, http.secret) == ("127.0.0.1:7000", "hidden")
    assert http.headers == {"X-A": ("b", "c")}
    assert http.tls.ciphersuites == ("A", "B")
    assert loaded.settings.storage.options.rootdirectory == tmp_path / "elsewhere"
    assert loaded.settings.log.fields == {"where": "here"}
    assert loaded.origins["http.addr"] == "environment REGISTRY_HTTP_ADDR"


def test_environment_parents_before_parts(tmp_path: Path) -> None:
    environ = {
        "REGISTRY_HTTP": "{addr: ':7', prefix: /a/}",
        "REGISTRY_HTTP_PREFIX": "/b/",
        "REGISTRY_STORAGE": "inmemory",
    }
    text = "version: 0.1\nstorage: {filesystem: {}, delete: {enabled: true}}\n"
    settings = read(tmp_path, text, environ).settings
    assert (settings.http.addr, settings.http.prefix) == (":7", "/b/")
    assert (settings.storage.driver, settings.storage.delete.enabled) == ("inmemory", True)


def test_environment_has_elements_of_lists(tmp_path: Path) -> None:
    """One after the other, whatever order their names have; the file's first ones stay."""
    text = "version: 0.1\nnotifications: {endpoints: [{name: zero, url: 'http://a/'}]}\n"
    prefix = "REGISTRY_NOTIFICATIONS_ENDPOINTS"
    environ = {f"{prefix}_{n}_NAME": f"number-{n}" for n in range(1, 12)}
    environ |= {f"{prefix}_{n}_URL": f"http://b/{n}" for n in range(12)}
    environ |= {f"{prefix}_2": "{name: whole, url: 'http://c/', headers: {A: [b]}}"}
    environ |= {f"{prefix}_3_IGNORE_ACTIONS": "[pull]"}
    loaded = read(tmp_path, text, environ)
    endpoints = loaded.settings.notifications.endpoints
    assert [each.url for each in endpoints] == [f"http://b/{n}" for n in range(12)]
    names = ["zero", "number-1", "number-2", *(f"number-{n}" for n in range(3, 12))]
    assert [each.name for each in endpoints] == names
    assert endpoints[2].headers == {"A": ("b",)}
    assert endpoints[3].ignore.actions == ("pull",)
    assert mistakes(tmp_path, text, {f"{prefix}_2_URL": "http://b/", f"{prefix}_X_URL": "y"}) == [
        f"environment {prefix}_X_URL: names no option; did you mean {prefix}_0_URL?",
        f"environment {prefix}_2_URL: there is no number 2: the next one would be 1",
    ]


def test_environment_mistakes(tmp_path: Path) -> None:
    environ = {"REGISTRY_HTTP_ADR": "x", "REGISTRY_HTTP_RELATIVEURLS": "perhaps"}
    assert mistakes(tmp_path, "version: 0.1\n", environ) == [
        "environment REGISTRY_HTTP_ADR: names no option; did you mean REGISTRY_HTTP_ADDR?",
        "environment REGISTRY_HTTP_RELATIVEURLS: http.relativeurls: has to be true or false",
    ]


def test_environment_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("version: 0.1\nhttp: {addr: ':9'}\n")
    environ = {"REGISTRY_CONFIGURATION_PATH": str(tmp_path / "c.yml")}
    assert load(None, environ, MAKERS).settings.http.addr == ":9"


def test_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {}, MAKERS).settings
    assert settings.storage.options.rootdirectory == tmp_path / "registry-data"
    assert settings.http.addr == "127.0.0.1:5000"
    assert settings.storage.delete.enabled
    service = load(None, {"STATE_DIRECTORY": "/var/lib/x"}, MAKERS).settings
    assert service.storage.options.rootdirectory == Path("/var/lib/x")


def test_two_drivers(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, "version: 0.1\nstorage: {filesystem: {}, inmemory: {}}\n")
    assert "several drivers (filesystem, inmemory)" in found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1h30m", 5400), ("500ms", 0.5), ("7", 7), ("168h", 604800), ("1.5m", 90)],
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    loaded = read(tmp_path, f"version: 0.1\nhttp: {{draintimeout: {text}}}\n")
    assert loaded.settings.http.draintimeout == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MiB", 4 * 1024**2), ("512KB", 512_000), ("7", 7), ("1.5 GiB", 3 * 512 * 1024**2)],
)
def test_sizes(tmp_path: Path, text: str, size: int) -> None:
    loaded = read(tmp_path, f"version: 0.1\nhttp: {{limits: {{blobsize: {text}}}}}\n")
    assert loaded.settings.http.limits.blobsize == size


def test_showing(tmp_path: Path) -> None:
    """What is shown can be loaded again, and hides secrets."""
    loaded = read(tmp_path, "version: 0.1\nhttp: {secret: s3cret, prefix: /x/}\n")
    text = shown(loaded, origins=True)
    assert "s3cret" not in text
    assert f"prefix: /x/  # {tmp_path}/config.yml:2" in text
    again = read(tmp_path, shown(loaded, origins=False), name="again.yml")
    assert again.settings.http.prefix == "/x/"
    assert again.settings.http.limits == loaded.settings.http.limits


def test_workers(tmp_path: Path) -> None:
    """A number, or as many as there are cores; but one where nobody else sees what is stored."""
    for text, workers in (("", 1), ("workers: 3", 3), ("workers: auto", 0)):
        found = read(tmp_path, f"version: 0.1\n{text}\n")
        assert found.settings.workers == workers
        assert f"workers: {workers or 'auto'}\n" in shown(found, origins=False)
    assert read(tmp_path, "version: 0.1", {"REGISTRY_WORKERS": "2"}).settings.workers == 2
    for text in ("0", "-1", "many", "1.5", "true"):
        said = mistakes(tmp_path, f"version: 0.1\nworkers: {text}\n")
        assert said == ["config.yml:2: workers: has to be a whole number from 1, or auto"]
    memory = "version: 0.1\nstorage: {inmemory: {}}\n"
    assert mistakes(tmp_path, memory + "workers: 2") == [
        "config.yml:3: workers: has to be 1: storage.inmemory keeps everything inside one process"
    ]
    found = read(tmp_path, memory + "workers: auto")
    assert found.settings.workers == 1
    assert "workers: auto is 1 here" in found.notices[-1]


def test_metrics_need_a_listener(tmp_path: Path) -> None:
    memory = "version: 0.1\nstorage: {filesystem: {}}\nhttp: {debug: {prometheus: {enabled: true}"
    (notice,) = read(tmp_path, f"{memory}}}}}\n").notices
    assert "has no effect without http.debug.addr" in notice
    assert read(tmp_path, f"{memory}, addr: ':1'}}}}\n").notices == ()


def test_hooks(tmp_path: Path) -> None:
    options = "{smtp: {addr: 'm:25', username: u, password: hush}, from: a@b, to: [c@d]}"
    hook = f"{{type: mail, disabled: true, levels: [panic, error], options: {options}}}"
    loaded = read(
        tmp_path, f"version: 0.1\nstorage: {{inmemory: {{}}}}\nlog: {{hooks: [{hook}]}}\n"
    )
    (found,) = loaded.settings.log.hooks
    assert (found.disabled, tuple(found.levels)) == (True, ("panic", "error"))
    text = shown(loaded, origins=False)
    assert "c@d" in text
    assert "hush" not in text
    for wrong, said in (
        ("{type: pigeon, options: {}}", "has to be one of mail"),
        ("{type: mail, options: {}}", "options.smtp"),
        (hook.replace("panic", "shout"), "'shout' is no level"),
    ):
        text = f"version: 0.1\nlog: {{hooks: [{wrong}]}}\n"
        assert any(said in each for each in mistakes(tmp_path, text))


def test_secrets_in_lists_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "version: 0.1\n"
        "storage: {inmemory: {}}\n"
        "health: {http: [{uri: 'http://x/', headers: {Authorization: [hush]}}]}\n"
    )
    text = shown(load(path, {}, MAKERS), origins=False)
    assert "http://x/" in text
    assert "hush" not in text


def test_a_policy_needs_somebody_to_decide_about(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("version: 0.1\nstorage: {inmemory: {}}\naccess: {theirs: {path: here}}\n")
    policies: Any = {"theirs": Theirs()}
    with pytest.raises(ConfigurationMistakes, match=r"access.theirs: needs an authenticator"):
        load(path, {}, MAKERS, {}, policies)


def test_one_policy_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    text = "version: 0.1\nstorage: {inmemory: {}}\nauth: {htpasswd: {path: accounts}}\n"
    policies: Any = {"theirs": Theirs(), "others": Theirs("others")}
    authenticators: Any = {"htpasswd": HtpasswdMaker()}

    def chosen(more: str, **environ: str) -> Any:
        path.write_text(text + more)
        return load(path, environ, MAKERS, authenticators, policies).settings.access.policy

    assert chosen("access: {rules: []}\n") is None
    name, options = chosen("access: {theirs: {path: here}}\n")
    assert (name, options.path) == ("theirs", tmp_path / "here")
    name, options = chosen("", REGISTRY_ACCESS_OTHERS_PATH="/there")
    assert (name, options.path) == ("others", Path("/there"))
    with pytest.raises(ConfigurationMistakes, match=r"a second policy beside theirs; keep one"):
        chosen("access: {theirs: {path: here}, others: {path: here}}\n")


@frozen
class Theirs:
    """The maker of a policy."""

    name: str = "theirs"
    settings: type = HtpasswdSettings
