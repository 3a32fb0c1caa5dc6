"""The `anthropic` SDK through a gateway over every kind of provider.

    pip install -r tests/sdk/requirements.txt
    python tests/sdk/anthropic_dialects.py http://127.0.0.1:8080

Expects a gateway with gateway.toml over the scripted upstream. Prints one line for each check;
exits 1 if one fails.
"""

import asyncio
import sys

import anthropic
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel

from checks import ANSWER, CALLS, CITY, MAIL, MODELS, QUESTION, check, raises, report, whole

USER = [{"role": "user", "content": QUESTION}]
CALLING = [{"role": "user", "content": CALLS}]
TOOLS = [{"name": "get_weather", "input_schema": CITY}, {"name": "send_mail", "input_schema": MAIL}]
PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
         "rkJggg==")
# Providers whose reasoning comes with a signature that they want back.
SIGNERS = ("claude", "amazon")


class Day(BaseModel):
    name: str
    degrees: float


def ask(client, model, messages=USER, **options):
    return client.messages.create(
        model=model, messages=messages, **{"max_tokens": 300, **options})


def calls_of(message):
    return [(b.id, b.name, b.input) for b in message.content if b.type == "tool_use"]


@check(over=MODELS)
def messages(client, model):
    """a whole message, with stop reason and usage"""
    message = ask(client, model, extra_body={"temperature": 0.5}, system=[
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])
    assert [block.text for block in message.content] == [ANSWER], message
    assert (message.stop_reason, message.role, message.type) == ("end_turn", "assistant", "message")
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0, message.usage
    anthropic.types.Message.model_validate(message.to_dict())
    short = ask(client, model, max_tokens=3)
    assert short.stop_reason == "max_tokens" and short.usage.output_tokens == 3, short


@check(over=MODELS)
def stream(client, model):
    """a stream: its events in order, the final message"""
    with client.messages.stream(model=model, messages=USER, max_tokens=300) as stream:
        events = [event for event in stream]
        final = stream.get_final_message()
    raw = [e for e in events if e.type.startswith(("message_", "content_block_"))]
    kinds = [event.type for event in raw]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1, kinds
    assert "".join(event.text for event in events if event.type == "text") == ANSWER
    assert final.content[0].text == ANSWER and final.stop_reason == "end_turn", final
    assert final.usage.input_tokens > 0 and final.usage.output_tokens > 0, final.usage
    for event in ask(client, model, stream=True):
        type(event).model_validate(event.to_dict())


@check(over=MODELS)
def stop_sequence(client, model):
    """a stop sequence ends the message"""
    if model.startswith("responder"):
        return  # the responses API has none
    message = ask(client, model, stop_sequences=["provider"])
    assert message.content[0].text.endswith("no "), message
    assert message.stop_reason in ("stop_sequence", "end_turn"), message


@check(over=MODELS)
def tools(client, model):
    """two parallel calls, inputs whole, their results, the answer"""
    first = ask(client, model, CALLING, tools=TOOLS)
    assert first.stop_reason == "tool_use", first
    whole(calls_of(first))
    results = [{"type": "tool_result", "tool_use_id": id,
                "content": [{"type": "text", "text": f"{name} done"}]}
               for id, name, _ in calls_of(first)]
    second = ask(client, model, [*CALLING, {"role": "assistant", "content": first.content},
                                 {"role": "user", "content": results}], tools=TOOLS)
    assert "send_mail done" in second.content[0].text and second.stop_reason == "end_turn", second


@check(over=MODELS)
def tool_stream(client, model):
    """two parallel calls from a stream, inputs whole in the final message"""
    with client.messages.stream(
            model=model, messages=CALLING, max_tokens=300, tools=TOOLS) as stream:
        fragments = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    whole(calls_of(final))
    assert final.stop_reason == "tool_use" and fragments, final


@check(over=MODELS)
def tool_choice(client, model):
    """any tool, a named one, none, one at most: kept, or named among the warnings"""
    for choice, messages, expected in [
        ({"type": "any"}, USER, ["get_weather"]),
        ({"type": "tool", "name": "send_mail"}, USER, ["send_mail"]),
        ({"type": "none"}, CALLING, []),
        ({"type": "auto", "disable_parallel_tool_use": True}, CALLING, ["get_weather"]),
    ]:
        raw = client.messages.with_raw_response.create(
            model=model, messages=messages, max_tokens=300, tools=TOOLS, tool_choice=choice)
        called = [name for _, name, _ in calls_of(raw.parse())]
        warnings = raw.headers.get("x-weighbridge-warnings", "")
        warned = "tool_choice" in warnings or "parallel" in warnings
        assert called == expected or warned, (choice, called)


@check(over=MODELS)
def failed_tool(client, model):
    """a tool's failure, with text beside it"""
    first = ask(client, model, CALLING, tools=TOOLS)
    results = [{"type": "tool_result", "tool_use_id": id, "is_error": True, "content": "no network"}
               for id, *_ in calls_of(first)]
    second = ask(client, model, [
        *CALLING, {"role": "assistant", "content": first.content},
        {"role": "user", "content": [*results, {"type": "text", "text": QUESTION}]}], tools=TOOLS)
    assert second.stop_reason == "end_turn" and second.content[0].text, second


@check(over=MODELS)
def thinking(client, model):
    """thinking with its signature, which comes back to the model that made it"""
    options = {"model": model + "?reasoning=2", "max_tokens": 3000, "tools": TOOLS,
               "thinking": {"type": "enabled", "budget_tokens": 1024}}
    first = client.messages.create(messages=CALLING, **options)
    whole(calls_of(first))
    thoughts = [block for block in first.content if block.type == "thinking"]
    if model.split("/")[0] in SIGNERS:
        assert "Thinking it over." in thoughts[0].thinking and thoughts[0].signature, first
        assert first.content[0].type == "thinking", first
    results = [{"type": "tool_result", "tool_use_id": id, "content": "done"}
               for id, *_ in calls_of(first)]
    turn = [*CALLING, {"role": "assistant", "content": first.content},
            {"role": "user", "content": results}]
    second = client.messages.create(messages=turn, **options)
    assert "done" in second.content[-1].text, second


@check(over=MODELS)
def thinking_elsewhere(client, model):
    """thinking that one provider's model made does not trouble another's"""
    options = {"max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    first = client.messages.create(model=model + "?reasoning=2", messages=USER, **options)
    turn = [*USER, {"role": "assistant", "content": first.content}, *USER]
    for other in MODELS:
        if other != model:
            second = client.messages.create(model=other, messages=turn, **options)
            assert second.content[-1].text == ANSWER, (other, second)


@check(over=MODELS)
def thinking_stream(client, model):
    """thinking from a stream: deltas, one signature, then the text"""
    with client.messages.stream(
            model=model + "?reasoning=2", messages=USER, max_tokens=3000,
            thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[-1].text == ANSWER, final
    if model.split("/")[0] in SIGNERS:
        assert kinds.count("signature") == 1 and "thinking" in kinds, kinds
        assert final.content[0].type == "thinking" and final.content[0].signature, final


@check(over=MODELS)
def attachments(client, model):
    """an image, beside a text"""
    content = [{"type": "image", "source": {
        "type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "text", "text": QUESTION}]
    message = ask(client, model, [{"role": "user", "content": content}])
    assert message.content[0].text == ANSWER, message


@check(over=MODELS)
def parse(client, model):
    """messages.parse() with a model"""
    message = client.messages.parse(
        model=model, messages=USER, max_tokens=300, output_format=Day)
    assert isinstance(message.parsed_output, Day), message


@check(over=MODELS)
def count_tokens(client, model):
    """count_tokens, by the provider or estimated"""
    count = client.messages.count_tokens(model=model, messages=USER, tools=TOOLS).input_tokens
    bare = client.messages.count_tokens(model=model, messages=USER).input_tokens
    assert count > bare > 0, (count, bare)


@check
def models(client):
    """models.list() and retrieve()"""
    ids = [model.id for model in client.models.list()]
    assert ids[0] == "auto" and {"small", "large"} <= set(ids), ids
    assert client.models.retrieve("small").id == "small"


@check(over=MODELS)
def error_classes(client, model):
    """what the provider answers gives the SDK's exception class, streamed or not"""
    for script, kind, status in [
        ("status=400", anthropic.BadRequestError, 400),
        ("reject=context", anthropic.BadRequestError, 400),
        ("status=401", anthropic.InternalServerError, 502),
        ("status=429&retry_after=7", anthropic.RateLimitError, 429),
        ("status=500", anthropic.InternalServerError, 502),
        ("status=503", anthropic.OverloadedError, 529),
    ]:
        for stream in (False, True):
            error = raises(
                kind, lambda: ask(client, f"{model}?{script}", stream=stream), status)
            assert error.body["type"] == "error" and error.body["error"]["message"], error.body
            assert error.request_id and error.body["request_id"], error.body
            if "retry_after" in script:
                assert error.response.headers["retry-after"] == "7", error.response.headers


@check
def callers_errors(client):
    """the caller's own mistakes"""
    raises(anthropic.NotFoundError, lambda: ask(client, "nope"), 404)
    raises(anthropic.BadRequestError, lambda: ask(client, "auto", []), 400)
    raises(anthropic.BadRequestError, lambda: ask(client, "auto", max_tokens="x"), 400)
    raises(anthropic.OverloadedError, lambda: ask(client, "claude/m?status=529"), 529)


@check(over=MODELS)
def broken_streams(client, model):
    """a stream that breaks is an exception"""
    for script in ("cut=2", "close=2", "garbage=2", "error_frame=2"):
        def read():
            with client.messages.stream(
                    model=f"{model}?{script}", messages=USER, max_tokens=300) as stream:
                stream.until_done()
        raises(anthropic.APIError, read)


@check
def policy(client):
    """the policy picks among providers of two dialects, and says which"""
    picked = []
    for text in (QUESTION, "Prove that every finite group of order p^2 q has a normal Sylow "
                 "subgroup, and derive the classification up to isomorphism."):
        raw = client.messages.with_raw_response.create(
            model="auto", max_tokens=300, messages=[{"role": "user", "content": text}])
        picked.append(raw.headers["x-weighbridge-model"])
    assert picked == ["small", "large"], picked


@check
def base_urls(client):
    """the base URL with and without /anthropic, whole and as AsyncAnthropic's stream"""
    async def run(base):
        async with AsyncAnthropic(base_url=base, api_key="any", max_retries=0) as asyncly:
            async with asyncly.messages.stream(
                    model="google/m", messages=USER, max_tokens=300) as stream:
                return await stream.get_final_text()
    base = str(client.base_url).rstrip("/")
    assert [asyncio.run(run(base + path)) for path in ("", "/anthropic")] == [ANSWER] * 2


report(f"anthropic {anthropic.__version__}",
       Anthropic(base_url=sys.argv[1], api_key="any", max_retries=0, timeout=30))
