"""The scripted upstream, through the official `openai` SDK.

    pip install -r tests/sdk/requirements.txt
    weighbridge mock & python tests/sdk/scripted_upstream.py http://127.0.0.1:9001

Prints one line for each check; exits 1 if one fails.
"""

import asyncio
import base64
import json
import struct
import sys
import time
import urllib.request
from enum import Enum

import httpx2 as httpx  # the client below the SDK; named httpx before version 3
import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

CHECKS = []
USER = [{"role": "user", "content": "What is rain?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def check(function):
    CHECKS.append(function)
    return function


@check
def chat(client):
    """a chat completion, with request id and usage"""
    answer = client.chat.completions.create(model="small-v1", messages=USER)
    assert answer.choices[0].message.content.startswith("This is small-v1, a scripted model")
    assert answer.choices[0].message.content.endswith("You asked: What is rain?")
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    assert answer._request_id.startswith("req_")
    strict(openai.types.chat.ChatCompletion, answer)


@check
def chat_in_any_script(client):
    """content arrays, Chinese text, n = 3, max_completion_tokens"""
    content = [{"type": "text", "text": "雨是什么？"}]
    answer = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": content}], n=3
    )
    assert len(answer.choices) == 3 and answer.choices[2].message.content.endswith("雨是什么？")
    answer = client.chat.completions.create(model="m", messages=USER, max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 3


@check
def stream_with_usage(client):
    """a stream, its usage chunk last"""
    stream = client.chat.completions.create(
        model="m", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).endswith("rain?")
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-2].usage is None
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 10
    for chunk in chunks:
        strict(openai.types.chat.ChatCompletionChunk, chunk)


@check
def stream_helper(client):
    """chat.completions.stream(): events and the final completion"""
    with client.chat.completions.stream(model="m", messages=USER) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert final.choices[0].message.content.endswith("rain?")


@check
def async_stream(_, base_url):
    """AsyncOpenAI"""

    async def run():
        async with AsyncOpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
            stream = await client.chat.completions.create(model="m", messages=USER, stream=True)
            return [chunk async for chunk in stream]

    assert asyncio.run(run())[-1].choices[0].finish_reason == "stop"


@check
def tool_loop(client):
    """a tool call, its result, the answer that quotes it"""
    messages = [{"role": "user", "content": "use get_weather for Oslo"}]
    answer = client.chat.completions.create(model="m", messages=messages, tools=[WEATHER])
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls" and message.content is None
    call = message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"city": "example", "unit": "celsius"}
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "rain, 8 degrees"}]
    answer = client.chat.completions.create(model="m", messages=messages, tools=[WEATHER])
    assert "rain, 8 degrees" in answer.choices[0].message.content


@check
def tool_stream(client):
    """a streamed tool call, put together by the SDK"""
    with client.chat.completions.stream(
        model="m", messages=USER, tools=[WEATHER], tool_choice="required"
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.delta") > 2, kinds
    call = final.choices[0].message.tool_calls[0].function
    assert call.name == "get_weather" and call.parsed_arguments["unit"] == "celsius"


class Kind(str, Enum):
    rain = "rain"
    snow = "snow"


class Day(BaseModel):
    name: str
    kinds: list[Kind]
    degrees: float
    note: str | None


class Forecast(BaseModel):
    days: list[Day]
    sure: bool
    follow_up: "Forecast | None"


@check
def structured_output(client):
    """chat.completions.parse() with a nested, recursive model"""
    answer = client.chat.completions.parse(model="m", messages=USER, response_format=Forecast)
    forecast = answer.choices[0].message.parsed
    assert isinstance(forecast, Forecast) and forecast.days[0].kinds == [Kind.rain]
    json_object = client.chat.completions.create(
        model="m", messages=USER, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(json_object.choices[0].message.content), dict)


@check
def parsed_tool(client):
    """openai.pydantic_function_tool()"""
    tool = openai.pydantic_function_tool(Day, name="note_day")
    answer = client.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": "note_day please"}], tools=[tool]
    )
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Day)


@check
def text_completions(client):
    """text completions, whole and streamed"""
    answer = client.completions.create(model="m", prompt="Once", max_tokens=4)
    assert answer.object == "text_completion" and answer.choices[0].finish_reason == "length"
    strict(openai.types.Completion, answer)
    chunks = list(client.completions.create(model="m", prompt="Once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks).endswith("Once")


@check
def models(client):
    """models.list() and retrieve()"""
    assert [model.id for model in client.models.list()] == ["mock-small", "mock-large"]
    assert client.models.retrieve("mock-small").owned_by == "scripted"
    raises(openai.NotFoundError, lambda: client.models.retrieve("other"), code="model_not_found")


@check
def embeddings(client, base_url):
    """embeddings: the SDK's base64 default equals float"""
    inputs = ["the red fox", "a red fox ran", "pay the invoice"]
    answer = client.embeddings.create(model="e", input=inputs)
    asked = json.load(urllib.request.urlopen(base_url.removesuffix("/v1") + "/_requests"))["data"][-1]
    assert json.loads(asked["body"])["encoding_format"] == "base64"
    floats = client.embeddings.create(model="e", input=inputs, encoding_format="float")
    assert len(answer.data) == 3 and len(answer.data[0].embedding) == 1536
    assert all(
        abs(a - b) < 1e-6 for a, b in zip(answer.data[1].embedding, floats.data[1].embedding)
    )
    near, far = (dot(floats.data[0].embedding, floats.data[i].embedding) for i in (1, 2))
    assert near > far
    raw = client.embeddings.create(model="e", input="x", dimensions=4, encoding_format="base64")
    assert len(struct.unpack("<4f", base64.b64decode(raw.data[0].embedding))) == 4


@check
def error_classes(client):
    """each status gives the SDK's exception class"""
    for status, kind in [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ]:
        for stream in (False, True):
            raises(kind, lambda: create(client, f"m?status={status}&error=boom", stream=stream))
    raises(openai.AuthenticationError, lambda: create(client.with_options(api_key="bad-key"), "m"),
           code="invalid_api_key")
    raises(openai.BadRequestError, lambda: create(client, "m?nonsense"), param="model")
    raises(openai.BadRequestError, lambda: create(client, "m", n=9), param="n")
    raises(openai.BadRequestError, lambda: create(client, "m", temperature="hot"), param="temperature")


@check
def retries(client):
    """the SDK's own retries see the status sequence and retry-after"""
    started = time.monotonic()
    model = "m?status=503,429,200&retry_after=1"
    answer = client.with_options(max_retries=2).chat.completions.create(model=model, messages=USER)
    assert answer.model == "m" and time.monotonic() - started > 1.9


@check
def broken_transport(client):
    """cut, stall, slow head, error frame, garbage: what the SDK makes of them"""
    read = lambda model: list(create(client, model, stream=True))
    raises((openai.APIConnectionError, httpx.RemoteProtocolError), lambda: read("m?cut=3"))
    raises(openai.APIConnectionError, lambda: create(client, "m?cut=3"))
    impatient = client.with_options(timeout=0.3)
    raises(openai.APITimeoutError, lambda: create(impatient, "m?head_ms=2000"))
    raises((openai.APITimeoutError, httpx.ReadTimeout),
           lambda: list(create(impatient, "m?stall=1", stream=True)))
    raises(openai.APIError, lambda: read("m?error_frame=2&error=boom"))
    raises((json.JSONDecodeError, openai.APIError, ValueError), lambda: read("m?garbage=1"))
    assert read("m?empty") == []
    assert read("m?close=2")[-1].choices[0].finish_reason is None
    assert read("m?no_done")[-1].choices[0].finish_reason == "stop"


@check
def odd_but_legal(client):
    """split bytes, comments, CRLF: the SDK reads the same text"""
    text = lambda model: "".join(
        chunk.choices[0].delta.content or "" for chunk in create(client, model, stream=True)
    )
    for model in ["m?split=1", "m?split=7&crlf&comment", "m?chunk_bytes=3", "m?comment"]:
        assert text(model) == text("m"), model
    assert len(text("m?huge=5000000")) > 5_000_000
    chunk = list(create(client, "m?reasoning=2", stream=True))[1]
    assert chunk.choices[0].delta.reasoning_content


@check
def client_leaves(client, base_url):
    """a stream closed by the SDK is recorded as left"""
    stream = create(client, "m?endless&chunk_ms=5", stream=True)
    next(stream), next(stream)
    stream.close()
    for _ in range(100):
        last = json.load(urllib.request.urlopen(base_url.removesuffix("/v1") + "/_requests"))["data"][-1]
        if last["client_left"]:
            return
        time.sleep(0.02)
    raise AssertionError(last)


def create(client, model, **options):
    return client.chat.completions.create(model=model, messages=USER, **options)


def raises(kind, call, **fields):
    try:
        call()
    except kind as error:
        for name, value in fields.items():
            assert getattr(error, name) == value, (name, getattr(error, name))
    else:
        raise AssertionError(f"expected {kind}")


def strict(model, value):
    """The SDK builds objects without checking them: check them here."""
    model.model_validate(value.to_dict(), strict=False)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def main():
    base_url = sys.argv[1].rstrip("/") + "/v1"
    client = OpenAI(base_url=base_url, api_key="any", max_retries=0, timeout=10)
    failed = 0
    for function in CHECKS:
        arguments = {"base_url": base_url} if "base_url" in function.__code__.co_varnames else {}
        try:
            function(client, **arguments)
            print(f"ok      {function.__name__}: {function.__doc__}")
        except Exception as error:  # report every check
            failed += 1
            print(f"FAILED  {function.__name__}: {type(error).__name__}: {error}")
    print(f"openai {openai.__version__}: {len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
