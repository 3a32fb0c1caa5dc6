"""LangChain's ChatOpenAI and ChatAnthropic through a gateway over every kind of provider.

    pip install -r tests/sdk/requirements.txt
    python tests/sdk/langchain_client.py http://127.0.0.1:8080

Expects a gateway with gateway.toml over the scripted upstream. Prints one line for each check;
exits 1 if one fails.
"""

import sys
from functools import partial
from importlib.metadata import version

import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from checks import ANSWER, MODELS, QUESTION, check, raises, report

BASE = sys.argv[1].rstrip("/")
OPENAI = {"base_url": BASE + "/v1", "api_key": "any", "max_retries": 0, "timeout": 30}
CLIENTS = [
    partial(ChatOpenAI, **OPENAI, use_responses_api=False),
    partial(ChatOpenAI, **OPENAI, use_responses_api=True),
    partial(ChatAnthropic, base_url=BASE, api_key="any", max_retries=0, timeout=30,
            max_tokens=300),
]


@tool
def get_weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@tool
def send_mail(to: str) -> str:
    """Sends a mail."""
    return f"sent to {to}"


class Day(BaseModel):
    """A day."""
    name: str
    degrees: float


def each(model):
    """The model through ChatOpenAI on chat and on responses, and through ChatAnthropic."""
    return [client(model=model) for client in CLIENTS]


@check(over=MODELS)
def invoke(model):
    """invoke(): text and usage"""
    for chat in each(model):
        answer = chat.invoke([("system", "Be brief."), ("human", QUESTION)])
        assert answer.text == ANSWER, answer
        assert answer.usage_metadata["output_tokens"] > 0, answer


@check(over=MODELS)
def stream(model):
    """stream(): the chunks add up, with usage"""
    for chat in each(model):
        total = None
        for chunk in chat.stream(QUESTION, **(
                {"stream_usage": True} if isinstance(chat, ChatOpenAI)
                and not chat.use_responses_api else {})):
            total = chunk if total is None else total + chunk
        assert total.text == ANSWER, total
        assert total.usage_metadata["output_tokens"] > 0, total


@check(over=MODELS)
def tool_loop(model):
    """bind_tools(): two calls, streamed and not, their results, the answer"""
    tools = {"get_weather": get_weather, "send_mail": send_mail}
    for chat in each(model):
        bound = chat.bind_tools(list(tools.values()))
        messages = [HumanMessage("First get_weather, then send_mail.")]
        answer = bound.invoke(messages)
        streamed = None
        for chunk in bound.stream(messages):
            streamed = chunk if streamed is None else streamed + chunk
        for calls in (answer.tool_calls, streamed.tool_calls):
            assert [call["name"] for call in calls] == list(tools), calls
            assert calls[0]["args"].keys() == {"city", "days"}, calls
            assert isinstance(calls[0]["args"]["days"], int), calls
            assert calls[1]["args"] == {"to": "example"}, calls
        results = [ToolMessage(tools[call["name"]].invoke(call["args"]), tool_call_id=call["id"])
                   for call in answer.tool_calls]
        last = bound.invoke([*messages, answer, *results])
        assert "sent to example" in last.text and not last.tool_calls, last


@check(over=MODELS)
def structured_output(model):
    """with_structured_output(), by schema and by tool"""
    for chat in each(model):
        for method in ("json_schema", "function_calling"):
            day = chat.with_structured_output(Day, method=method).invoke(QUESTION)
            assert isinstance(day, Day), (method, day)


@check(over=["openai-like/e", "google/e", "coherent/e"])
def embeddings(model):
    """OpenAIEmbeddings, of texts"""
    embedder = OpenAIEmbeddings(model=model, check_embedding_ctx_length=False, **OPENAI)
    vectors = embedder.embed_documents(["a red fox", "an invoice"])
    assert len(vectors) == 2 and len(vectors[0]) > 100


@check
def failures():
    """a provider's failure is the SDK's exception"""
    chat = CLIENTS[0](model="google/m?status=429")
    raises(openai.RateLimitError, lambda: chat.invoke(QUESTION), 429)
    raises(openai.APIError, lambda: list(CLIENTS[0](model="claude/m?cut=2").stream(QUESTION)))


@check
def policy():
    """the policy, on each surface"""
    for chat in each("auto"):
        answer = chat.invoke(QUESTION)
        assert "scripted model" in answer.text and answer.usage_metadata["total_tokens"] > 0


report("langchain-openai {}, langchain-anthropic {}".format(
    version("langchain-openai"), version("langchain-anthropic")))
