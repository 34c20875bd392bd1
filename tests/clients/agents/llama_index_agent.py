"""LlamaIndex's agent by OpenInference."""

from __future__ import annotations

import os

import shop
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai import OpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor


class Stub(OpenAI):
    """A model that LlamaIndex has no table of."""

    @property
    def metadata(self):
        from llama_index.core.base.llms.types import LLMMetadata

        return LLMMetadata(
            model_name=self.model, is_chat_model=True, is_function_calling_model=True
        )


provider = shop.provider()
LlamaIndexInstrumentor().instrument(tracer_provider=provider)
llm = Stub(model="stub-1", max_retries=0, api_base=os.environ["OPENAI_BASE_URL"])


async def run(turn: shop.Turn) -> str:
    agent = FunctionAgent(
        name="shop",
        tools=list(shop.FUNCTIONS.values()),
        llm=llm,
        system_prompt=shop.PROMPT,
        streaming=turn.stream,
    )
    history = [ChatMessage(**message) for message in turn.history]
    return str(await agent.run(turn.said, chat_history=history))


def answer(turn: shop.Turn) -> str:
    with using_attributes(session_id=turn.session, user_id=shop.USER):
        return shop.finished(run(turn))


shop.main(answer, provider.shutdown)
