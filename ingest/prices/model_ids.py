"""Which names a model may be listed by, given how a sender writes it.

Bedrock writes ``us.anthropic.claude-...-v1:0``, Azure a deployment, Vertex ``publishers/...`` and
``@date``, OpenRouter and LiteLLM a provider before a slash; most models also have dated names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_PROVIDERS: Final = {
    "anthropic": "anthropic anthropic.messages claude",
    "aws": "aws aws.bedrock bedrock amazon-bedrock amazon.bedrock bedrock-converse amazon"
    " sagemaker",
    "azure": "azure azure.ai.openai az.ai.openai azure.ai.inference az.ai.inference azure-ai"
    " azure-openai azure-ai-foundry microsoft.foundry",
    "google": "google googleai gcp.vertex-ai gcp.gemini gcp.gen-ai vertex-ai vertex-ai-beta"
    " vertexai gemini google-gla google-vertex google-genai google-vertexai google.generative-ai"
    " google.vertex",
    "openai": "openai openai.chat openai.responses openai.completion text-completion-openai",
    "cohere": "cohere cohere-chat",
    "mistral": "mistral mistral-ai mistralai",
    "x-ai": "x-ai xai",
    "together": "together together-ai togetherai",
    "fireworks": "fireworks fireworks-ai",
    "moonshotai": "moonshot moonshotai moonshot-ai",
    "zai": "zai z-ai",
    "voyageai": "voyage voyageai",
    "cloudflare": "cloudflare workers-ai",
    **{
        name: name
        for name in (
            "arcee", "baseten", "cerebras", "databricks", "deepseek", "github-copilot", "groq",
            "meta", "minimax", "modal", "novita", "openrouter", "ovhcloud", "perplexity", "zhipuai",
        )
    },
}  # fmt: skip
"""Names that senders give to the providers of the list, in lower case with hyphens."""

PROVIDERS: Final = {name: who for who, names in _PROVIDERS.items() for name in names.split()}
"""Providers of the list by those names."""

UNLISTED: Final = frozenset(
    {
        "ollama", "vllm", "hosted-vllm", "lm-studio", "lmstudio", "llama.cpp", "llamacpp",
        "llamafile", "local", "localai", "sglang", "tgi", "xinference", "mlx", "ollama-chat",
        "anyscale", "deepinfra", "friendliai", "huggingface", "hyperbolic", "ibm.watsonx.ai",
        "lambda", "nebius", "nscale", "nvidia", "nvidia-nim", "oci", "replicate", "runpod",
        "sambanova", "snowflake", "watsonx",
    }
)  # fmt: skip
"""Machines of one's own and hosts that the list does not have: the price of another host of the
same model would be a guess."""

_IMITATED: Final = frozenset({"openai"})
"""Providers that senders name for every server with the same interface."""

_BEDROCK: Final = re.compile(
    r"(?:(?:us|eu|apac|jp|au|ca|sa|me|af|il|global|us-gov)\.)?"
    r"(?P<vendor>ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot"
    r"|moonshotai|nvidia|openai|qwen|stability|writer|zai)\.(?P<name>[a-z].*)"
)
_BEDROCK_ARN: Final = re.compile(r"arn:aws[a-z-]*:bedrock:.*?/(?P<name>.+)")
_BEDROCK_ROUTE: Final = re.compile(r"(?:(?:converse(?:_like)?|invoke|[a-z]{2}-[a-z-]+-\d)/)+")
_VERTEX: Final = re.compile(r"(?:projects/.*?/)?publishers/(?P<vendor>[^/]+)/models/(?P<name>.+)")
_VERSION: Final = re.compile(r"(?:[-@](?:\d{8}|\d{4}-\d\d-\d\d|latest|default)|-v\d+(?::\d+)?)$")
_MAX: Final = 256


class Name(NamedTuple):
    """A name to look for, with the provider to look at; None is the one that the name tells."""

    provider: str | None
    name: str


def names_of(provider: str | None, model: str) -> list[Name]:
    """Names of a model in the published list, the most exact one first.

    Examples
    --------
    >>> names_of(None, "azure/gpt-4o")[0]
    Name(provider='azure', name='gpt-4o')
    >>> names_of("aws.bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0")[0]
    Name(provider='aws', name='us.anthropic.claude-sonnet-4-20250514-v1:0')
    >>> names_of("ollama", "deepseek-r1")
    []
    """
    found = [
        Name(who, form)
        for who, name in _listed(_known(provider), _slashed(model))
        for form in _forms(name)
    ]
    return [] if _is_unlisted(provider) else list(dict.fromkeys(found))


def own_names(provider: str | None, model: str) -> list[str]:
    """Names of a model in a table of one's own, the most exact one first.

    Examples
    --------
    >>> own_names(None, "us.anthropic.claude-sonnet-4-20250514-v1:0")[-1]
    'claude-sonnet-4'
    """
    whole = _slashed(model)
    bare = whole.rpartition("/")[2]
    bedrock = _BEDROCK.fullmatch(bare)
    names = [
        model.strip().lower()[:_MAX],
        whole,
        *([f"{_known(provider) or _key(provider)}/{bare}"] if provider else ()),
        bare,
    ]
    names += [bedrock["name"]] if bedrock else []
    return list(dict.fromkeys(form for name in names for form in _forms(name)))


def _slashed(model: str) -> str:
    """A model's id with a slash where LangChain and Pydantic AI have a colon."""
    whole = model.strip().lower()[:_MAX]
    provider, _, rest = whole.partition(":")
    is_provider = _key(provider) in PROVIDERS or _key(provider) in UNLISTED
    return f"{provider}/{rest}" if rest and is_provider else whole


def _listed(provider: str | None, model: str) -> Iterator[Name]:
    if arn := _BEDROCK_ARN.fullmatch(model):
        yield Name("aws", arn["name"])
        return
    if vertex := _VERTEX.fullmatch(model):
        yield Name("google", vertex["name"])
        return
    prefix, slash, rest = model.partition("/")
    if provider is not None:
        yield Name(provider, model)
    if slash:
        if _is_unlisted(prefix):
            return
        told = "google" if prefix == "models" else _known(prefix)
        if told == "aws":
            rest = _BEDROCK_ROUTE.sub("", rest)
        if told is not None:
            yield Name(told, rest)
            if "/" in rest:  # as LiteLLM writes what it reaches by another
                yield from _listed(told, rest)
            yield Name("openrouter", model)
        provider, model = told or provider, rest.rpartition("/")[2]
        if told is None and provider is not None:
            yield Name(provider, model)
    if _BEDROCK.fullmatch(model):  # whoever made the model, or its sender, is named beside it
        yield Name("aws", model)
    elif provider is None and not slash:
        if "@" in model:
            yield Name("google", model)
        elif model.startswith("ft:"):
            yield Name("openai", model)
    if provider is None or provider in _IMITATED:
        yield Name(None, model)


def _known(provider: str | None) -> str | None:
    key = _key(provider)
    return PROVIDERS.get(key) or PROVIDERS.get(key.partition(".")[0])


def _is_unlisted(provider: str | None) -> bool:
    key = _key(provider)
    return key in UNLISTED or key.partition(".")[0] in UNLISTED


def _key(provider: str | None) -> str:
    return (provider or "").strip().lower().replace("_", "-").replace(" ", "-")


def _forms(name: str) -> Iterator[str]:
    """A name as it is, and without the date or version at its end."""
    yield name
    while (shorter := _VERSION.sub("", name)) != name:
        yield shorter
        name = shorter
