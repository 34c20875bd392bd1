"""Settings of evaluators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, SecretStr

from infra.settings.sections import ExistingFile, Section, _url, revealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.settings import Settings
    from processors.evaluators.spec import Any_


_Url = Annotated[str, AfterValidator(_url)]


class EvaluatorsSettings(Section):
    """Who judges interactions and sessions; without a file nobody does."""

    file: ExistingFile | None = Field(
        default=None,
        description="YAML file of evaluators (docs/evaluators.md); with it `driftline up` runs an"
        " evaluator of its own",
    )
    otlp_url: _Url | None = Field(
        default=None,
        description="http(s)://host:port of an OTLP/HTTP receiver that gets every score as a log"
        " event gen_ai.evaluation.result too; not driftline's own gateway, which would count it"
        " twice",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="bearer token for endpoints of evaluators that name no key_file",
    )


def evaluators(settings: Settings) -> tuple[Any_, ...]:
    """The evaluators that are configured and enabled.

    Raises
    ------
    UsageError
        The file is missing in the settings, or is wrong.
    """
    from ingest.core.errors import UsageError
    from processors.evaluators.spec import load

    if settings.evaluators.file is None:
        raise UsageError("no evaluators: set DRIFTLINE_EVALUATORS_FILE (docs/evaluators.md)")
    return load(settings.evaluators.file)


def keys(settings: Settings, specs: Sequence[Any_]) -> dict[str, str | None]:
    """Bearer token by evaluator.

    Raises
    ------
    UsageError
        A file of a key cannot be read.
    """
    from pathlib import Path

    from ingest.core.errors import UsageError

    found: dict[str, str | None] = {}
    for spec in specs:
        path = getattr(spec, "key_file", None)
        if path is None:
            found[spec.name] = revealed(settings.evaluators.api_key)
            continue
        try:
            found[spec.name] = Path(path).read_text().strip()
        except OSError as error:
            raise UsageError(f"evaluator {spec.name}: {path}: {error.strerror}") from None
    return found
