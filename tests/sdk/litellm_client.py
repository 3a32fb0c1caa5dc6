"""LiteLLM as a client of a gateway over every kind of provider.

    pip install -r tests/sdk/requirements.txt
    python tests/sdk/litellm_client.py http://127.0.0.1:8080

Expects a gateway with gateway.toml over the scripted upstream. Prints one line for each check;
exits 1 if one fails.
"""

import asyncio
import json
import os
import sys
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # fetch nothing
import litellm

from checks import ANSWER, CALLS, CITY, MAIL, MODELS, QUESTION, check, raises, report, whole

BASE = sys.argv[1].rstrip("/")
USER = [{"role": "user", "content": QUESTION}]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}}
         for name, schema in (("get_weather", CITY), ("send_mail", MAIL))]
litellm.suppress_debug_info = True


def ask(model, messages=USER, anthropically=False, **options):
    """LiteLLM's own provider prefix says which protocol it speaks to the gateway."""
    prefix, base = ("anthropic/", BASE) if anthropically else ("openai/", BASE + "/v1")
    return litellm.completion(model=prefix + model, messages=messages, api_base=base,
                              api_key="any", max_tokens=300, num_retries=0, timeout=30, **options)


@check(over=MODELS)
def completion(model):
    """completion() as chat and as messages"""
    for anthropically in (False, True):
        answer = ask(model, anthropically=anthropically)
        assert answer.choices[0].message.content == ANSWER, answer
        assert answer.choices[0].finish_reason == "stop", answer
        assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, answer.usage


@check(over=MODELS)
def stream(model):
    """a stream as chat and as messages, put together by LiteLLM"""
    for anthropically in (False, True):
        chunks = list(ask(model, anthropically=anthropically, stream=True,
                          stream_options={"include_usage": True}))
        answer = litellm.stream_chunk_builder(chunks, messages=USER)
        assert answer.choices[0].message.content == ANSWER, answer
        assert answer.usage.completion_tokens > 0, answer.usage


@check(over=MODELS)
def tools(model):
    """two parallel calls, whole and streamed, as chat and as messages; their results"""
    messages = [{"role": "user", "content": CALLS}]
    for anthropically in (False, True):
        answer = ask(model, messages, anthropically, tools=TOOLS)
        chunks = list(ask(model, messages, anthropically, tools=TOOLS, stream=True))
        for message in (answer.choices[0].message,
                        litellm.stream_chunk_builder(chunks).choices[0].message):
            whole((call.id, call.function.name, json.loads(call.function.arguments))
                  for call in message.tool_calls)
        message = answer.choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} done"}
                   for call in message.tool_calls]
        last = ask(model, [*messages, message.model_dump(), *results], anthropically, tools=TOOLS)
        assert "send_mail done" in last.choices[0].message.content, last


@check(over=MODELS)
def anthropic_messages(model):
    """LiteLLM's anthropic.messages.acreate()"""
    answer = asyncio.run(litellm.anthropic.messages.acreate(
        model="anthropic/" + model, messages=USER, max_tokens=300, api_base=BASE, api_key="any"))
    assert answer["content"][0]["text"] == ANSWER, answer


@check
def embedding():
    """embedding()"""
    answer = litellm.embedding(model="openai/google/e", input=["a", "b"], api_base=BASE + "/v1",
                               api_key="any", encoding_format="float")
    assert len(answer.data) == 2 and len(answer.data[0]["embedding"]) > 100


@check(over=MODELS)
def error_classes(model):
    """what the provider answers gives LiteLLM's exception class"""
    for anthropically in (False, True):
        for script, kind in [("status=429", litellm.RateLimitError),
                             ("status=400", litellm.BadRequestError),
                             ("reject=context", litellm.BadRequestError)]:
            raises(kind, lambda: ask(f"{model}?{script}", anthropically=anthropically))
        raises((litellm.APIError, litellm.exceptions.MidStreamFallbackError),
               lambda: list(ask(f"{model}?cut=2", anthropically=anthropically, stream=True)))


report("litellm " + version("litellm"))
