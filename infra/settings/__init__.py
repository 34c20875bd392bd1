"""Every setting of driftline, and the only place that reads the environment.

A setting has a section and a name. It is given, in this order of precedence, on the command line,
as the environment variable ``DRIFTLINE_SECTION_NAME``, in a TOML file (``driftline.toml`` in the
current folder, or the file that ``DRIFTLINE_CONFIG`` names), or by its default. ``driftline
settings`` prints what is in force and where it comes from.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from infra.settings.board import BoardSettings
from infra.settings.evaluators import EvaluatorsSettings
from infra.settings.gateway import GatewaySettings
from infra.settings.notify import NotifySettings
from infra.settings.prices import PriceSettings
from infra.settings.receiver import ReceiverSettings
from infra.settings.redaction import RedactionSettings
from infra.settings.sections import (
    ClickHouseSettings,
    DetectionSettings,
    GrafanaSettings,
    HealthSettings,
    KafkaSettings,
    LogSettings,
    ProcessingSettings,
    ResultsSettings,
    RetentionSettings,
    Section,
)
from ingest.core.errors import UsageError

PREFIX = "DRIFTLINE_"
CONFIG_FILE = "driftline.toml"
# Variables with our prefix that are no settings: where the file is, and two switches of the tests.
_NOT_SETTINGS = frozenset({"DRIFTLINE_CONFIG", "DRIFTLINE_DATA", "DRIFTLINE_REQUIRE_SERVICES"})


class Settings(BaseSettings):
    """All settings. Make one with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    home: Path = Field(
        default=Path(".driftline"),
        description="folder of the embedded runtime: data, logs, state; one runtime per folder",
    )
    port_base: int = Field(
        default=17200,
        ge=1024,
        le=65000,
        description="first port of the embedded runtime; broker, ClickHouse and others follow it",
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    redaction: RedactionSettings = Field(default_factory=RedactionSettings)
    processing: ProcessingSettings = Field(default_factory=ProcessingSettings)
    results: ResultsSettings = Field(default_factory=ResultsSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    detection: DetectionSettings = Field(default_factory=DetectionSettings)
    evaluators: EvaluatorsSettings = Field(default_factory=EvaluatorsSettings)
    receiver: ReceiverSettings = Field(default_factory=ReceiverSettings)
    prices: PriceSettings = Field(default_factory=PriceSettings)
    health: HealthSettings = Field(default_factory=HealthSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    board: BoardSettings = Field(default_factory=BoardSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    grafana: GrafanaSettings = Field(default_factory=GrafanaSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, file: the first that names a setting wins."""
        return (init_settings, env_settings, InitSettingsSource(settings_cls, _read_file()))


@dataclass(frozen=True, slots=True)
class Described:
    """One setting as `driftline settings` shows it.

    Parameters
    ----------
    name
        ``section.name``, as in the file.
    variable
        Environment variable.
    value
        Value in force, masked if secret.
    source
        ``default``, the variable, the file, or ``command line``.
    description
        What it is for and why the default is what it is.
    """

    name: str
    variable: str
    value: Any
    source: str
    description: str


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read all settings and check them.

    Parameters
    ----------
    overrides
        What the command line gave, None for what it did not give.

    Raises
    ------
    UsageError
        A setting is unknown or wrong; the message names it and what is expected.
    """
    _refuse_unknown_variables()
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise UsageError(_explain(error, given)) from None


def describe(settings: Settings, overrides: Mapping[str, Any] | None = None) -> list[Described]:
    """Every setting with its value in force and where that comes from."""
    file, rows = _read_file(), []
    for section, name, description in _fields():
        variable = _variable(section, name)
        holder = settings if section is None else getattr(settings, section)
        value = getattr(holder, name)
        if isinstance(value, SecretStr):
            value = "********"
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, Section | dict):
            value = holder.model_dump(mode="json")[name]
        in_file = file.get(name) if section is None else file.get(section, {}).get(name)
        if section is None and (overrides or {}).get(name) is not None:
            source = "command line"
        elif os.environ.get(variable):
            source = variable
        else:
            source = str(_file_path()) if in_file is not None else "default"
        dotted = name if section is None else f"{section}.{name}"
        rows.append(Described(dotted, variable, value, source, description))
    return rows


def _fields() -> Iterator[tuple[str | None, str, str]]:
    """Section (None at the top), name and description of every setting."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            for inner, inner_field in kind.model_fields.items():
                yield name, inner, inner_field.description or ""
        else:
            yield None, name, field.description or ""


def _variable(section: str | None, name: str) -> str:
    return (PREFIX + (f"{section}_{name}" if section else name)).upper()


def _refuse_unknown_variables() -> None:
    known = {_variable(section, name) for section, name, _ in _fields()}
    for variable in sorted(os.environ):
        if variable.upper().startswith(PREFIX) and variable not in known | _NOT_SETTINGS:
            new = variable.upper().replace(f"{PREFIX}DOOR_", f"{PREFIX}RECEIVER_")
            new = new.replace("DETECTION_ARL", "DETECTION_PAGES_PER_WEEK")
            renamed = new in known and new != variable.upper()
            hint = f"it is now {new}" if renamed else _hint(variable, known, PREFIX)
            raise UsageError(f"{variable} is not a setting; {hint}")


def _file_path() -> Path:
    return Path(os.environ.get("DRIFTLINE_CONFIG") or CONFIG_FILE)


def _read_file() -> dict[str, Any]:
    path = _file_path()
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if os.environ.get("DRIFTLINE_CONFIG"):
            raise UsageError(f"DRIFTLINE_CONFIG names {path}, which does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def _explain(error: ValidationError, given: Mapping[str, Any]) -> str:
    """One line that names the first wrong setting, where it was given, and what is expected."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    message = first["msg"].removeprefix("Value error, ")
    section, name = (place[0], place[1]) if len(place) > 1 else (None, place[0])
    variable = _variable(section, name)
    if os.environ.get(variable):
        where = variable
    elif section is None and name in given:
        where = "--" + name.replace("_", "-")
    else:
        where = f"{'.'.join(place)} in {_file_path()}"
    if first["type"] == "extra_forbidden":
        known = [f"{s}.{n}" if s else n for s, n, _ in _fields()]
        return f"{where} is not a setting; {_hint('.'.join(place), known)}"
    if first["type"] == "value_error":
        # Messages of ours; one about a whole section names the settings itself.
        return message if section is None else f"{where}: {message}"
    message = (
        message.replace("Input should be", "expected")
        .replace("expected greater", "expected a number greater")
        .replace("expected less", "expected a number less")
        .replace("String should", "should")
    )
    secret = name.endswith("password") or name == "token"
    return f"{where}: {message}" + ("" if secret else f", not {first['input']!r}")


def _hint(name: str, known: Collection[str], prefix: str = "") -> str:
    """Say which known name was probably meant; the prefix they share must not make them alike."""
    bare = [candidate[len(prefix) :] for candidate in known]
    near = difflib.get_close_matches(name.upper()[len(prefix) :] if prefix else name, bare, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else "`driftline settings` lists them all"
