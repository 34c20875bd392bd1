"""LangGraph and LangChain by OpenInference: an agent whose memory is a checkpointer."""

from __future__ import annotations

import shop
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor

provider = shop.provider()
LangChainInstrumentor().instrument(tracer_provider=provider)
agent = create_agent(
    ChatOpenAI(model="stub-1", max_retries=0, stream_usage=True),
    [tool(function) for function in shop.FUNCTIONS.values()],
    system_prompt=shop.PROMPT,
    checkpointer=InMemorySaver(),
    name="shop",
)


def answer(turn: shop.Turn) -> str:
    given = {"messages": [{"role": "user", "content": turn.said}]}
    settings = {"configurable": {"thread_id": turn.session}}
    with using_attributes(session_id=turn.session, user_id=shop.USER):
        if turn.stream:
            parts = agent.stream(given, settings, stream_mode="messages")
            return "".join(str(part.content) for part, _ in parts)
        return str(agent.invoke(given, settings)["messages"][-1].content)


shop.main(answer, provider.shutdown)
