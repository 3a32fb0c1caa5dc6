"""The gateway, through the official `openai` SDK: what a client that changes one base URL sees.

    pip install openai
    python tests/sdk/openai_client.py http://127.0.0.1:8080

Expects a gateway with the policy `auto` over the scripted upstream, as a start without any
configuration gives. Prints one line for each check; exits 1 if one fails.
"""

import sys

import openai
from openai import OpenAI
from pydantic import BaseModel

CHECKS = []
EASY = [{"role": "user", "content": "Hello, how are you?"}]
HARD = [{"role": "user", "content": "Prove that every finite group of order p^2 q has a normal "
         "Sylow subgroup, and derive the classification up to isomorphism."}]
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def check(function):
    CHECKS.append(function)
    return function


def headers_of(client, **options):
    return client.chat.completions.with_raw_response.create(**options).headers


@check
def chat(client):
    """a chat completion names the model that served"""
    answer = client.chat.completions.create(model="auto", messages=EASY)
    assert answer.model == "mock-small", answer.model
    assert "You asked: Hello" in answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


@check
def routing(client):
    """an easy request is served cheaply, a hard one strongly, and both say why"""
    easy, hard = (headers_of(client, model="auto", messages=m) for m in (EASY, HARD))
    assert easy["x-weighbridge-tier"] == "cheap", dict(easy)
    assert hard["x-weighbridge-tier"] == "strong", dict(hard)
    assert float(easy["x-weighbridge-score"]) < float(hard["x-weighbridge-score"])
    assert float(easy["x-weighbridge-cost-usd"]) > 0


@check
def stream(client):
    """a stream, with the usage chunk that was asked for last"""
    chunks = list(client.chat.completions.create(
        model="auto", messages=EASY, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "You asked: Hello" in text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert float(chunks[-1].weighbridge["cost_usd"]) > 0
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "stop"


@check
def stream_without_usage(client):
    """no usage chunk for a caller that did not ask"""
    chunks = list(client.chat.completions.create(model="auto", messages=EASY, stream=True))
    assert all(chunk.choices for chunk in chunks)


@check
def tools(client):
    """a tool call, its result, the answer"""
    first = client.chat.completions.create(
        model="auto", messages=EASY, tools=[WEATHER], tool_choice="required")
    call = first.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and "city" in call.function.arguments
    messages = [*EASY, first.choices[0].message,
                {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    second = client.chat.completions.create(model="auto", messages=messages, tools=[WEATHER])
    assert "rain" in second.choices[0].message.content


@check
def tool_stream(client):
    """a streamed tool call, put together by the SDK"""
    with client.chat.completions.stream(
            model="auto", messages=EASY, tools=[WEATHER], tool_choice="required") as events:
        message = events.get_final_completion().choices[0].message
    assert message.tool_calls[0].function.name == "get_weather"


@check
def structured_output(client):
    """chat.completions.parse() with a model"""
    class Person(BaseModel):
        name: str
        age: int
    answer = client.chat.completions.parse(model="auto", messages=EASY, response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


@check
def routellm(client):
    """RouteLLM's way of calling: the threshold in the model's name"""
    low, high = (headers_of(client, model=f"router-auto-{t}", messages=EASY) for t in ("0.0", "0.99"))
    assert (low["x-weighbridge-tier"], high["x-weighbridge-tier"]) == ("strong", "cheap")
    assert low["x-weighbridge-threshold"] == "0.0000"


@check
def overrides(client):
    """the dial in a header and in the body"""
    by_header = headers_of(client, model="auto", messages=EASY,
                           extra_headers={"x-weighbridge-threshold": "0"})
    by_body = headers_of(client, model="auto", messages=EASY,
                         extra_body={"weighbridge": {"threshold": 0}})
    assert by_header["x-weighbridge-tier"] == by_body["x-weighbridge-tier"] == "strong"


@check
def models(client):
    """models.list() and retrieve()"""
    ids = [model.id for model in client.models.list()]
    assert ids[0] == "auto" and "scripted/mock-small" in ids, ids
    assert client.models.retrieve("scripted/mock-small").owned_by == "scripted"


@check
def errors(client):
    """each failure gives the SDK's own exception, with a code and the field"""
    raises(openai.NotFoundError, client, model="nope", code="caller_unknown_model", param="model")
    raises(openai.BadRequestError, client, model="auto", messages=[],
           code="caller_invalid_request", param="messages")
    raises(openai.RateLimitError, client, model="scripted/m?status=429",
           code="provider_rate_limited")
    raises(openai.InternalServerError, client, model="scripted/m?status=500",
           code="provider_failed")
    raises(openai.BadRequestError, client, model="scripted/m?status=400")


@check
def broken_stream(client):
    """a stream that breaks is an exception, not a short answer"""
    try:
        list(client.chat.completions.create(
            model="scripted/m?cut=2", messages=EASY, stream=True))
    except openai.APIError as error:
        assert "provider_answer_cut" in str(error.body), error.body
    else:
        raise AssertionError("the stream looked whole")


def raises(kind, client, code=None, param=None, messages=EASY, **options):
    try:
        client.chat.completions.create(messages=messages, **options)
    except kind as error:
        assert code is None or error.code == code, error.code
        assert param is None or error.param == param, error.param
    else:
        raise AssertionError(f"expected {kind}")


def main():
    base = sys.argv[1].rstrip("/")
    client = OpenAI(base_url=base + "/v1", api_key="any", max_retries=0, timeout=20)
    failed = 0
    for function in CHECKS:
        try:
            function(client)
            print(f"ok      {function.__name__}: {function.__doc__}")
        except Exception as error:  # every check is reported
            failed += 1
            print(f"FAILED  {function.__name__}: {type(error).__name__}: {error}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed (openai {openai.__version__})")
    sys.exit(failed > 0)


main()
