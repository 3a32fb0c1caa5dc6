"""The `openai` SDK through a gateway over every kind of provider.

    pip install -r tests/sdk/requirements.txt
    python tests/sdk/openai_dialects.py http://127.0.0.1:8080

Expects a gateway with gateway.toml over the scripted upstream. Prints one line for each check;
exits 1 if one fails.
"""

import asyncio
import json
import sys

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from checks import ANSWER, CALLS, CITY, MAIL, MODELS, QUESTION, check, raises, report, whole

USER = [{"role": "user", "content": QUESTION}]
CALLING = [{"role": "user", "content": CALLS}]
FUNCTIONS = [{"name": "get_weather", "parameters": CITY}, {"name": "send_mail", "parameters": MAIL}]
TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS]
RESPONSE_TOOLS = [{"type": "function", "strict": False, **function} for function in FUNCTIONS]
PIXEL = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
         "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
EMBEDDERS = ["openai-like/e", "google/e", "microsoft/e", "coherent/e"]


class Day(BaseModel):
    name: str
    degrees: float


class Forecast(BaseModel):
    days: list[Day]
    sure: bool
    note: str | None


@check(over=MODELS)
def chat(client, model):
    """a whole answer, with finish reason and usage"""
    answer = client.chat.completions.create(model=model, messages=[
        {"role": "system", "content": "Be brief."}, *USER], temperature=0.5)
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop"), choice
    counted(answer.usage)
    openai.types.chat.ChatCompletion.model_validate(answer.to_dict())


@check(over=MODELS)
def chat_stream(client, model):
    """a stream, its finish reason, its usage chunk last"""
    chunks = list(client.chat.completions.create(
        model=model, messages=USER, stream=True, stream_options={"include_usage": True}))
    if model.startswith("microsoft"):
        assert chunks.pop(0).prompt_filter_results  # Azure's own, passed on as it came
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [], chunks[-1]
    counted(chunks[-1].usage)
    assert len({chunk.id for chunk in chunks}) == 1
    for chunk in chunks:
        openai.types.chat.ChatCompletionChunk.model_validate(chunk.to_dict())


@check(over=MODELS)
def chat_limit(client, model):
    """a limit is kept and told"""
    answer = client.chat.completions.create(model=model, messages=USER, max_completion_tokens=20)
    whole_or_short = (answer.choices[0].finish_reason, answer.choices[0].message.content)
    assert whole_or_short == ("stop", ANSWER) or whole_or_short[0] == "length", whole_or_short
    answer = client.chat.completions.create(model=model, messages=USER, max_tokens=3)
    assert answer.choices[0].finish_reason == "length", answer
    assert answer.usage.completion_tokens == 3, answer.usage


@check(over=MODELS)
def chat_stop(client, model):
    """a stop text ends the answer"""
    if model.startswith("responder"):
        return  # the responses API has none
    answer = client.chat.completions.create(model=model, messages=USER, stop=["provider"])
    assert answer.choices[0].message.content.endswith("no "), answer
    assert answer.choices[0].finish_reason == "stop", answer


@check(over=MODELS)
def chat_tools(client, model):
    """two parallel calls, arguments whole, their results, the answer"""
    first = client.chat.completions.create(model=model, messages=CALLING, tools=TOOLS)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls", first
    whole((call.id, call.function.name, json.loads(call.function.arguments))
          for call in message.tool_calls)
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} done"}
               for call in message.tool_calls]
    second = client.chat.completions.create(
        model=model, messages=[*CALLING, message, *results], tools=TOOLS)
    assert "send_mail done" in second.choices[0].message.content, second
    assert second.choices[0].finish_reason == "stop", second


@check(over=MODELS)
def chat_tool_stream(client, model):
    """two parallel calls from a stream, put together by the SDK"""
    with client.chat.completions.stream(model=model, messages=CALLING, tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 2, kinds
    assert final.choices[0].finish_reason == "tool_calls", final
    whole((call.id, call.function.name, json.loads(call.function.arguments))
          for call in final.choices[0].message.tool_calls)


@check(over=MODELS)
def chat_tool_choice(client, model):
    """any tool, a named one, none: kept, or named among the warnings"""
    named = {"type": "function", "function": {"name": "send_mail"}}
    for choice, messages, expected in [
        ("required", USER, ["get_weather"]), (named, USER, ["send_mail"]), ("none", CALLING, []),
    ]:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=messages, tools=TOOLS, tool_choice=choice)
        called = [call.function.name for call in raw.parse().choices[0].message.tool_calls or []]
        assert called == expected or warns(raw, "tool_choice"), (choice, called)


@check(over=MODELS)
def chat_parse(client, model):
    """chat.completions.parse() with a nested model"""
    answer = client.chat.completions.parse(model=model, messages=USER, response_format=Forecast)
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Forecast) and isinstance(parsed.days[0], Day), answer
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=USER, response_format={"type": "json_object"})
    text = raw.parse().choices[0].message.content
    assert warns(raw, "response_format") or isinstance(json.loads(text), dict), text


@check(over=MODELS)
def chat_parsed_tool(client, model):
    """openai.pydantic_function_tool()"""
    answer = client.chat.completions.parse(
        model=model, messages=[{"role": "user", "content": "note_day please"}],
        tools=[openai.pydantic_function_tool(Day, name="note_day")])
    call = answer.choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, Day), answer


@check(over=MODELS)
def chat_image(client, model):
    """an image beside a text"""
    content = [{"type": "text", "text": QUESTION},
               {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == ANSWER, answer


@check(over=MODELS)
def chat_reasoning(client, model):
    """reasoning is counted, and never part of the content"""
    answer = client.chat.completions.create(
        model=model + "?reasoning=2", messages=USER, reasoning_effort="low",
        max_completion_tokens=9000)
    assert answer.choices[0].message.content == ANSWER, answer
    assert answer.usage.completion_tokens > 20, answer.usage
    stream = client.chat.completions.create(
        model=model + "?reasoning=2", messages=USER, stream=True, reasoning_effort="low",
        max_completion_tokens=9000)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == ANSWER


@check(over=MODELS)
def responses(client, model):
    """responses.create(): text, status, usage"""
    answer = client.responses.create(model=model, input=QUESTION, instructions="Be brief.")
    assert (answer.output_text, answer.status) == (ANSWER, "completed"), answer
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 10
    openai.types.responses.Response.model_validate(answer.to_dict())
    short = client.responses.create(model=model, input=USER, max_output_tokens=16)
    assert short.status == "incomplete" or short.output_text == ANSWER, short


@check(over=MODELS)
def responses_stream(client, model):
    """a response as events, in order, and the SDK's final response"""
    with client.responses.stream(model=model, input=USER) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"], kinds
    assert kinds[-1] == "response.completed", kinds
    for kind in ("response.output_item.added", "response.content_part.added",
                 "response.output_text.done", "response.content_part.done",
                 "response.output_item.done"):
        assert kinds.count(kind) == 1, kinds
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == ANSWER
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers)), numbers
    assert final.output_text == ANSWER and final.usage.output_tokens > 0, final


@check(over=MODELS)
def responses_tools(client, model):
    """function calls of a response, their outputs, the answer"""
    first = client.responses.create(
        model=model, input=CALLING, tools=RESPONSE_TOOLS, store=False)
    calls = [item for item in first.output if item.type == "function_call"]
    whole((call.call_id, call.name, json.loads(call.arguments)) for call in calls)
    results = [{"type": "function_call_output", "call_id": call.call_id,
                "output": f"{call.name} done"} for call in calls]
    second = client.responses.create(
        model=model, input=[*CALLING, *first.output, *results], tools=RESPONSE_TOOLS, store=False)
    assert "send_mail done" in second.output_text, second


@check(over=MODELS)
def responses_tool_stream(client, model):
    """function calls of a streamed response"""
    with client.responses.stream(model=model, input=CALLING, tools=RESPONSE_TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_response()
    done = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert [json.loads(e.arguments) for e in done] == [
        json.loads(item.arguments) for item in final.output if item.type == "function_call"], done
    whole((item.call_id, item.name, json.loads(item.arguments))
          for item in final.output if item.type == "function_call")


@check(over=[model for model in MODELS if not model.startswith("responder")])
def agent_tools(client, model):
    """a coding agent's tools: one that takes a text, one in a namespace; whole and streamed"""
    tools = [
        {"type": "custom", "name": "apply_patch", "description": "Changes files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
        {"type": "namespace", "name": "mcp__docs", "description": "The handbook.",
         "tools": [{"type": "function", "name": "search", "strict": False, "parameters": CITY}]},
    ]
    asked = [{"role": "user", "content": "Please use apply_patch and mcp__docs__search."}]
    first = client.responses.create(model=model, input=asked, tools=tools, store=False)
    with client.responses.stream(model=model, input=asked, tools=tools) as stream:
        events = list(stream)
    streamed = events[-1].response
    outputs = []
    for answer in first, streamed:
        patch, search = [item for item in answer.output if item.type.endswith("call")]
        assert (patch.type, patch.name) == ("custom_tool_call", "apply_patch"), patch
        assert patch.input and not patch.input.startswith("{"), patch
        assert (search.type, search.name, search.namespace) == (
            "function_call", "search", "mcp__docs"), search
        outputs = [{"type": "custom_tool_call_output", "call_id": patch.call_id, "output": "patched"},
                   {"type": "function_call_output", "call_id": search.call_id, "output": "found"}]
    deltas = [e.delta for e in events if e.type == "response.custom_tool_call_input.delta"]
    done = [e.input for e in events if e.type == "response.custom_tool_call_input.done"]
    assert ["".join(deltas)] == done and done[0], events
    last = client.responses.create(
        model=model, input=[*asked, *streamed.output, *outputs], tools=tools, store=False)
    assert "found" in last.output_text, last


@check(over=MODELS)
def responses_parse(client, model):
    """responses.parse() with a nested model"""
    answer = client.responses.parse(model=model, input=QUESTION, text_format=Forecast)
    assert isinstance(answer.output_parsed, Forecast), answer


@check(over=MODELS)
def responses_reasoning(client, model):
    """a reasoning item goes back with the next turn"""
    options = {"model": model + "?reasoning=2", "reasoning": {"effort": "low", "summary": "auto"},
               "include": ["reasoning.encrypted_content"], "store": False,
               "max_output_tokens": 9000}
    first = client.responses.create(input=CALLING, tools=RESPONSE_TOOLS, **options)
    calls = [item for item in first.output if item.type == "function_call"]
    assert len(calls) == 2, first
    if model.split("/")[0] in ("responder", "claude", "amazon"):
        assert first.output[0].type == "reasoning" and first.output[0].encrypted_content, first
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "done"}
               for call in calls]
    second = client.responses.create(
        input=[*CALLING, *first.output, *results], tools=RESPONSE_TOOLS, **options)
    assert "done" in second.output_text, second


@check(over=MODELS)
def responses_reasoning_elsewhere(client, model):
    """reasoning that one provider's model made does not trouble another's"""
    options = {"reasoning": {"effort": "low", "summary": "auto"}, "store": False,
               "include": ["reasoning.encrypted_content"], "max_output_tokens": 9000}
    first = client.responses.create(model=model + "?reasoning=2", input=USER, **options)
    for other in MODELS:
        if other != model:
            second = client.responses.create(
                model=other, input=[*USER, *first.output, *USER], **options)
            assert second.output_text == ANSWER, (other, second)


@check
def responses_state(client):
    """stored state that the provider does not have is refused by name"""
    error = raises(openai.BadRequestError, lambda: client.responses.create(
        model="claude/m", input=QUESTION, previous_response_id="resp_1"))
    assert "previous_response_id" in str(error), error


@check(over=EMBEDDERS)
def embeddings(client, model):
    """embeddings: the SDK's base64 default equals float"""
    inputs = ["the red fox", "a red fox ran"]
    default = client.embeddings.create(model=model, input=inputs)
    floats = client.embeddings.create(model=model, input=inputs, encoding_format="float")
    assert [item.index for item in default.data] == [0, 1], default
    assert len(default.data[1].embedding) == len(floats.data[1].embedding) > 100
    for a, b in zip(default.data[1].embedding, floats.data[1].embedding):
        assert abs(a - b) < 1e-6, (a, b)
    assert default.usage.total_tokens >= 0


@check
def embeddings_nowhere(client):
    """a provider that makes no embeddings says so"""
    raises(openai.BadRequestError, lambda: client.embeddings.create(model="claude/e", input="x"))


@check(over=MODELS)
def text_completions(client, model):
    """text completions, whole and streamed"""
    answer = client.completions.create(model=model, prompt=QUESTION, max_tokens=400)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (ANSWER, "stop"), answer
    counted(answer.usage)
    chunks = list(client.completions.create(
        model=model, prompt=QUESTION, max_tokens=400, stream=True))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == ANSWER, chunks


@check(over=MODELS)
def error_classes(client, model):
    """what the provider answers gives the SDK's exception class, streamed or not"""
    for script, kind, status in [
        ("status=400", openai.BadRequestError, 400),
        ("reject=context", openai.BadRequestError, 400),
        ("status=401", openai.InternalServerError, 502),
        ("status=429&retry_after=7", openai.RateLimitError, 429),
        ("status=500", openai.InternalServerError, 502),
        ("status=503", openai.InternalServerError, 503),
    ]:
        for stream in (False, True):
            for call in (
                lambda: client.chat.completions.create(
                    model=f"{model}?{script}", messages=USER, stream=stream),
                lambda: client.responses.create(
                    model=f"{model}?{script}", input=USER, stream=stream),
            ):
                error = raises(kind, call, status)
                assert error.message and error.response.headers["x-weighbridge-request-id"]
                if "retry_after" in script:
                    assert error.response.headers["retry-after"] == "7", error.response.headers


@check(over=MODELS)
def broken_streams(client, model):
    """a stream that breaks is an exception, on chat and on responses"""
    for script in ("cut=2", "close=2", "garbage=2", "error_frame=2"):
        raises(openai.APIError, lambda: list(client.chat.completions.create(
            model=f"{model}?{script}", messages=USER, stream=True)))
        events = []
        try:
            events = list(client.responses.create(
                model=f"{model}?{script}", input=USER, stream=True))
        except openai.APIError:
            continue
        assert events[-1].type in ("response.failed", "error"), (script, events[-1])


@check
def policy(client):
    """the policy picks among providers of two dialects, and says which"""
    tiers = {}
    for text in (QUESTION, "Prove that every finite group of order p^2 q has a normal Sylow "
                 "subgroup, and derive the classification up to isomorphism."):
        for raw in (
            client.chat.completions.with_raw_response.create(
                model="auto", messages=[{"role": "user", "content": text}]),
            client.responses.with_raw_response.create(model="auto", input=text),
        ):
            assert raw.headers["x-weighbridge-policy"] == "auto"
            tiers.setdefault(text, []).append(raw.headers["x-weighbridge-model"])
    assert list(tiers.values()) == [["small"] * 2, ["large"] * 2], tiers


@check(over=MODELS)
def async_client(client, model):
    """AsyncOpenAI, four requests at once"""
    async def run():
        async with AsyncOpenAI(base_url=client.base_url, api_key="any", max_retries=0) as asyncly:
            answers = [asyncly.chat.completions.create(model=model, messages=USER)
                       for _ in range(4)]
            return await asyncio.gather(*answers)
    assert [a.choices[0].message.content for a in asyncio.run(run())] == [ANSWER] * 4


def warns(raw, field):
    """Whether the gateway said that this field is not carried whole."""
    return field in raw.headers.get("x-weighbridge-warnings", "")


def counted(usage):
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


base = sys.argv[1].rstrip("/")
report(f"openai {openai.__version__}",
       OpenAI(base_url=base + "/v1", api_key="any", max_retries=0, timeout=30))
