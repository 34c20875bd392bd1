"""What a reader may ask of the engine: lists of what is allowed, everything else is refused.

The statement is split into tokens here, strictly: a character, comment or string that could be
read in two ways is refused, and the engine receives the statement without its comments. Then every
name before a bracket must be an allowed function, table function, type or keyword. No other name,
bare or quoted, may be that of a function which is not allowed, because ClickHouse takes functions
by name alone in places such as ``arrayMap(f, ...)`` and ``APPLY f``.

``readonly=1`` and the sandbox stand behind this check; see ``docs/decisions``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Final

from infra.embedded.statements import EngineError

STATEMENT_BYTES: Final = 256 << 10
DEPTH: Final = 100
"""Brackets within brackets. The engine's parser calls itself for each, on a stack of fixed size."""

_STARTS: Final = frozenset({"select", "with", "show", "describe", "desc", "explain", "exists", "("})
_REFUSED_WORDS: Final = frozenset({"into", "outfile", "infile", "settings"})
_TABLE_FUNCTIONS: Final = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series", "values",
     "view", "null"}
)  # fmt: skip
_KEYWORDS: Final = frozenset(
    {"all", "and", "any", "apply", "as", "asc", "between", "by", "case", "cast", "cube", "desc",
     "describe", "distinct", "div", "else", "except", "exists", "explain", "filter", "from",
     "global", "group", "having", "ilike", "in", "interpolate", "intersect", "interval", "is",
     "join", "like", "limit", "materialized", "mod", "not", "offset", "on", "or", "over",
     "prewhere", "qualify", "recursive", "regexp", "replace", "rollup", "select", "sets", "step",
     "strict", "syntax", "table", "then", "to", "top", "tree", "union", "using", "when", "where",
     "with", "within"}
)  # fmt: skip
_TYPES: Final = frozenset(
    {"aggregatefunction", "array", "datetime", "datetime32", "datetime64", "decimal", "decimal32",
     "decimal64", "decimal128", "decimal256", "dynamic", "enum", "enum8", "enum16", "fixedstring",
     "json", "lowcardinality", "map", "nested", "nullable", "numeric", "simpleaggregatefunction",
     "time64", "tuple", "variant"}
)  # fmt: skip
_COMBINATORS: Final = (
    "if", "array", "map", "distinct", "ornull", "ordefault", "foreach", "resample", "argmin",
    "argmax", "state", "merge", "mergestate", "simplestate",
)  # fmt: skip
_SYSTEM_TABLES: Final = frozenset(
    {"aggregate_function_combinators", "asynchronous_metrics", "build_options", "collations",
     "columns", "contributors", "data_skipping_indices", "data_type_families", "databases",
     "errors", "events", "formats", "functions", "keywords", "licenses", "merge_tree_settings",
     "merges", "metrics", "mutations", "numbers", "numbers_mt", "one", "parts", "parts_columns",
     "primes", "projections", "settings", "table_engines", "table_functions", "tables",
     "time_zones", "zeros", "zeros_mt"}
)  # fmt: skip
_FORMATS: Final = re.compile(
    r"(?:TabSeparated|TSV)(?:Raw)?(?:WithNames(?:AndTypes)?)?|(?:CSV|RowBinary)(?:WithNames(?:AndTypes)?)?"
    r"|JSON(?:EachRow|Compact|Strings|CompactStrings|Columns|CompactColumns|ColumnsWithMetadata"
    r"|ObjectEachRow|StringsEachRow|Lines|L)?|JSONCompact(?:Strings)?EachRow(?:WithNames(?:AndTypes)?)?"
    r"|(?:Pretty)?NDJSON|Pretty(?:Compact|Space)?(?:NoEscapes)?(?:MonoBlock)?|PrettyJSON(?:EachRow|Lines)"
    r"|Arrow(?:Stream)?|Markdown|MD|MsgPack|Native|Null|ORC|Parquet|RawBLOB|LineAsString|TSKV"
    r"|Values|Vertical|XML",
    re.IGNORECASE,
)

UPPER_BOUNDS: Final[Mapping[str, int]] = {
    "max_ast_depth": 1000,
    "max_ast_elements": 50_000,
    "max_expanded_ast_elements": 500_000,
    "max_parser_backtracks": 1_000_000,
    "max_parser_depth": 1000,
    "max_query_size": STATEMENT_BYTES,
    "max_recursive_cte_evaluation_depth": 1000,
    "max_subquery_depth": 100,
    "max_threads": os.cpu_count() or 1,
}
"""What readers may lower and never raise; the values are ClickHouse's own defaults."""

_SETTINGS: Final = re.compile(
    r"max_(?:execution_time|memory_usage|result_bytes|block_size|result_rows|columns_to_read"
    r"|(?:rows|bytes)_(?:to_(?:read|sort|group_by|transfer)|in_(?:set|join|distinct)))"
    r"|(?:result|read|sort|group_by|set|join|distinct|timeout)_overflow_mode"
    r"|output_format_(?:json|csv|tsv|pretty|arrow|parquet|native|decimal|float)_[a-z0-9_]+"
    r"|date_time_(?:in|out)put_format|session_timezone|extremes|join_use_nulls|group_by_use_nulls"
    r"|final|prefer_column_name_to_alias|aggregate_functions_null_for_empty|union_default_mode"
    r"|transform_null_in|cast_keep_nullable|cast_string_to_dynamic_use_inference"
    r"|enable_time_time64_type|describe_compact_output|asterisk_include_[a-z_]+"
)
# Sent by clients for every query; a reader's session is always `readonly=1`, with no log.
_IGNORED_SETTINGS: Final = frozenset({"readonly", "log_comment"})

_TOKEN: Final = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<space>[ \t\r\n\f\v]+)
    |(?P<string>'(?:[^'\\\0]|\\[^\0]|'')*')
    |`(?P<back>(?:[^`\\\0]|``)*)`|"(?P<double>(?:[^"\\\0]|"")*)"
    |(?P<word>[A-Za-z0-9_]+)|(?P<sign>[-+*/%=<>!|&^~?:;.,()\[\]{}])""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    """``kind`` is ``string``, ``quoted``, ``word`` or ``sign``; ``text`` is without quotes."""

    kind: str
    text: str

    @property
    def is_name(self) -> bool:
        return self.kind in ("word", "quoted") and not self.text[:1].isdigit()


_END: Final = _Token("sign", "")

PRIVATE_TABLE: Final = "dead_letter_originals"
"""Untouched bytes, which only redaction makes fit to be shown."""


def check(sql: str, database: str, output_format: str, known: Collection[str]) -> str:
    """Return the statement as it goes to the engine, or refuse it.

    Parameters
    ----------
    sql, database, output_format
        The request.
    known
        Names of all functions that the engine has, in lower case.

    Raises
    ------
    EngineError
        A part of it is not allowed; the text names the part.
    """
    if len(sql.encode()) > STATEMENT_BYTES:
        raise EngineError.of(62, "SYNTAX_ERROR", f"the query has more than {STATEMENT_BYTES} bytes")
    if database.lower() == "system":
        raise _refused("database system; name its tables as system.<table>")
    _check_format(output_format)
    plain, tokens = _split(sql)
    _check_depth(tokens)
    forbidden = frozenset(known) - functions() - {"format"}
    # A statement may name lambdas; such a name is no function of the engine's.
    aliased = {b.text.lower() for a, b in pairwise(tokens) if a.text.lower() == "as" and b.is_name}
    own = aliased - frozenset(known)
    first = tokens[0].text.lower() if tokens and tokens[0].kind in ("word", "sign") else ""
    if first not in _STARTS:
        raise _refused("anything but SELECT, WITH, SHOW, DESCRIBE, EXPLAIN and EXISTS")
    around = zip([_END, *tokens], tokens, [*tokens[1:], _END], strict=False)
    for place, (before, token, after) in enumerate(around):
        if token.is_name:
            _check_name(before, token, after, forbidden, own)
            if token.text.lower() == "system" and after.text == ".":
                _check_system_table(tokens[place + 2 : place + 3])
        elif token.text == ";" and token.kind == "sign" and after is not _END:
            raise _refused("more than one statement")
        elif token.kind == "string" and before.text.lower() in ("from", "join"):
            raise _refused("a string in place of a table")
    return plain


def settings(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that a reader may choose; how far, `Limits` decides.

    Raises
    ------
    EngineError
        A setting is not one of those.
    """
    kept = {name: value for name, value in wanted.items() if name not in _IGNORED_SETTINGS}
    for name in kept:
        if not (_SETTINGS.fullmatch(name) or name in UPPER_BOUNDS):
            raise _refused(f"setting {name!r}")
    return kept


def _check_name(
    before: _Token, token: _Token, after: _Token, forbidden: Collection[str], own: Collection[str]
) -> None:
    name = token.text.lower()
    if name == PRIVATE_TABLE:
        raise _refused(f"table {name}, whose bytes are not redacted")
    if after.kind == "sign" and after.text == "(":
        if name not in own and not _is_callable(name):
            raise _refused(f"{token.text}()")
    elif name in forbidden:
        raise _refused(f"the name of the function {token.text}; as an alias take another")
    if token.kind == "word" and name in _REFUSED_WORDS and before.text != ".":
        raise _refused(f"{token.text.upper()}; settings go into the URL")
    if name == "identifier" and before.text == ":":
        raise _refused("a parameter of type Identifier")
    if name == "format" and after.is_name and after.text.lower() not in _KEYWORDS:
        _check_format(after.text)


def _check_system_table(name: list[_Token]) -> None:
    if not name or name[0].text.lower() not in _SYSTEM_TABLES:
        raise _refused(f"system.{name[0].text if name else ''}")


def _check_format(name: str) -> None:
    if not _FORMATS.fullmatch(name):
        raise _refused(f"format {name}")


def _is_callable(name: str) -> bool:
    return name in _callable() or any(
        name.endswith(suffix) and _is_callable(name.removesuffix(suffix)) for suffix in _COMBINATORS
    )


def _check_depth(tokens: list[_Token]) -> None:
    depth = 0
    for token in tokens:
        if token.kind == "sign":
            depth += (token.text in "([{") - (token.text in ")]}")
            if depth > DEPTH:
                raise EngineError.of(
                    306, "TOO_DEEP_RECURSION", f"more than {DEPTH} brackets within each other"
                )


def _split(sql: str) -> tuple[str, list[_Token]]:
    """Statement without comments, and its tokens."""
    plain, tokens, at = [], [], 0
    for found in _matches(sql):
        at = found.end()
        kind = str(found.lastgroup)
        plain.append(" " if kind == "comment" else found[0])
        if kind in ("back", "double"):
            tokens.append(_Token("quoted", found[kind]))
        elif kind not in ("comment", "space"):
            tokens.append(_Token(kind, found[0]))
    if at < len(sql):
        text = (
            f"character {sql[at]!r} at position {at + 1}, or a quote or comment that does not end"
        )
        raise EngineError.of(62, "SYNTAX_ERROR", f"{text}, is not taken from a reader")
    return "".join(plain), tokens


def _matches(sql: str) -> Iterator[re.Match[str]]:
    scanner = _TOKEN.scanner(sql)  # type: ignore[attr-defined]
    return iter(scanner.match, None)


@cache
def functions() -> frozenset[str]:
    """Names of the functions that readers may call, in lower case."""
    lines = files("infra.embedded").joinpath("reader_functions.txt").read_text("utf-8").splitlines()
    return frozenset(" ".join(line for line in lines if not line.startswith("#")).lower().split())


@cache
def _callable() -> frozenset[str]:
    return functions() | _KEYWORDS | _TYPES | _TABLE_FUNCTIONS


def _refused(what: str) -> EngineError:
    return EngineError.of(164, "READONLY", f"a reader cannot use {what}")
