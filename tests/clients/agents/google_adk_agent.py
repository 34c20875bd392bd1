"""Google's Agent Development Kit, which instruments itself, with a model over LiteLLM."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # else it fetches prices from the network

import shop
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai import types

provider = shop.provider()
agent = LlmAgent(
    name="shop",
    model=LiteLlm("openai/stub-1", max_retries=0),
    instruction=shop.PROMPT,
    tools=list(shop.FUNCTIONS.values()),
)
runner = InMemoryRunner(agent, app_name=shop.NAME)
runner.auto_create_session = True


async def run(turn: shop.Turn) -> str:
    mode = StreamingMode.SSE if turn.stream else StreamingMode.NONE
    told = ""
    async for event in runner.run_async(
        user_id=shop.USER,
        session_id=turn.session,
        new_message=types.Content(role="user", parts=[types.Part(text=turn.said)]),
        run_config=RunConfig(streaming_mode=mode),
    ):
        if event.is_final_response() and event.content and event.content.parts:
            told = "".join(part.text or "" for part in event.content.parts)
    return told


shop.main(lambda turn: shop.finished(run(turn)), provider.shutdown)
