"""The scripted upstream in every dialect, through each provider's official SDK.

    pip install -r tests/sdk/requirements.txt
    weighbridge mock & python tests/sdk/scripted_dialects.py http://127.0.0.1:9001

Prints one line for each check; exits 1 if one fails. `scripted_upstream.py` has OpenAI's chat,
completions and embeddings.
"""

import functools
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

import anthropic
import boto3
import botocore.config
import botocore.exceptions
import cohere
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types
from pydantic import BaseModel

CHECKS = []
BASE = sys.argv[1].rstrip("/")
RAIN = "What is rain?"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
ARGUMENTS = {"city": "example", "unit": "celsius"}
# AWS's own example pair, whose signatures the scripted upstream recomputes.
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def check(function):
    CHECKS.append(function)
    return function


class City(BaseModel):
    city: str
    unit: str


# --- OpenAI's Responses API


def responses_client(**options):
    return openai.OpenAI(base_url=BASE + "/v1", max_retries=0, **{"api_key": "k", **options})


RESPONSES_TOOL = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}


@check
def responses_whole():
    """openai responses: text, usage, reasoning, an item of each kind is valid"""
    answer = responses_client().responses.create(
        model="m?cached=1", input=RAIN, reasoning={"effort": "low", "summary": "auto"}
    )
    assert answer.output_text.endswith("rain?") and answer.status == "completed"
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.usage.input_tokens_details.cached_tokens == 1
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens
    openai.types.responses.Response.model_validate(answer.to_dict(), strict=False)
    short = responses_client().responses.create(model="m", input=RAIN, max_output_tokens=3)
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")


@check
def responses_stream():
    """openai responses: the stream's events, numbered, end in the whole response"""
    with responses_client().responses.stream(
        model="m", input=RAIN, reasoning={"summary": "auto"}
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed" and "response.reasoning_summary_text.delta" in kinds
    deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert final.output_text == deltas and deltas.endswith("rain?")


@check
def responses_tools():
    """openai responses: parallel calls streamed, their results, the answer that quotes them"""
    client = responses_client()
    with client.responses.stream(
        model="m?calls=2", input="use get_weather", tools=[RESPONSES_TOOL]
    ) as stream:
        kinds = [event.type for event in stream]
        calls = stream.get_final_response().output
    assert kinds.count("response.function_call_arguments.delta") > 4
    assert [json.loads(call.arguments) for call in calls] == [ARGUMENTS] * 2
    items = [{"role": "user", "content": "use get_weather"}]
    for call in calls:
        items.append({"type": "function_call", "call_id": call.call_id, "name": call.name,
                      "arguments": call.arguments})
    for number, call in enumerate(calls):
        items.append({"type": "function_call_output", "call_id": call.call_id,
                      "output": f"result {number}"})
    answer = client.responses.create(model="m", input=items, tools=[RESPONSES_TOOL])
    assert "result 0 result 1" in answer.output_text
    raises(openai.BadRequestError, lambda: client.responses.create(model="m", input=items[3:]))


@check
def responses_parsed():
    """openai responses.parse(): a structured output"""
    answer = responses_client().responses.parse(model="m", input=RAIN, text_format=City)
    assert isinstance(answer.output_parsed, City)


@check
def responses_errors():
    """openai responses: refusals, errors in the stream, a truncated stream"""
    client = responses_client()
    ask = lambda model, **more: client.responses.create(model=model, input=RAIN, **more)
    raises(openai.RateLimitError, lambda: ask("m?status=429"))
    raises(openai.BadRequestError, lambda: ask("m", previous_response_id="resp_1"))
    error = raises(openai.BadRequestError, lambda: ask("m?reject=context"))
    assert error.code == "context_length_exceeded"
    failed = list(ask("m?error_frame=2&error=boom", stream=True))[-1]
    assert (failed.type, failed.message) == ("error", "boom")
    assert list(ask("m?close=2", stream=True))[-1].type == "response.output_text.delta"
    for status, key in [(401, "bad-401"), (403, "sk-bad-403"), (429, "bad-429-b")]:
        error = raises(openai.APIStatusError,
                       lambda: responses_client(api_key=key).responses.create(model="m", input="x"))
        assert error.status_code == status


# --- Anthropic


def anthropic_client(**options):
    return anthropic.Anthropic(base_url=BASE, max_retries=0, **{"api_key": "k", **options})


CLAUDE_TOOL = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}


def claude(model="m", text=RAIN, **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return anthropic_client().messages.create(
        model=model, messages=messages, **{"max_tokens": 500, **more}
    )


@check
def anthropic_whole():
    """anthropic: a message, its usage apart from the cache, stop reasons"""
    answer = claude("m?tokens_in=100&cached=30&cache_write=20")
    assert answer.content[0].text.endswith("rain?") and answer.stop_reason == "end_turn"
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (50, 30)
    assert usage.cache_creation_input_tokens == 20
    assert claude(max_tokens=3).stop_reason == "max_tokens"
    stopped = claude(stop_sequences=["scripted"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "scripted")
    anthropic.types.Message.model_validate(answer.to_dict(), strict=False)


@check
def anthropic_stream():
    """anthropic: the stream helper accumulates the message; the order of the raw events"""
    with anthropic_client().messages.stream(
        model="m", max_tokens=500, messages=[{"role": "user", "content": RAIN}]
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text and text.endswith("rain?")
    assert final.usage.output_tokens > 5 and final.stop_reason == "end_turn"
    kinds = [event.type for event in claude(stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@check
def anthropic_thinking():
    """anthropic: thinking with a signature, which comes back to this model and to no other"""
    asked = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    with anthropic_client().messages.stream(
        model="m", messages=[{"role": "user", "content": RAIN}], **asked
    ) as stream:
        final = stream.get_final_message()
    whole = claude(**asked)
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].signature == whole.content[0].signature
    again = [{"role": "user", "content": RAIN},
             {"role": "assistant", "content": final.content},
             {"role": "user", "content": "And snow?"}]
    assert claude(messages=again, **asked).content[1].text.endswith("And snow?")
    raises(anthropic.BadRequestError, lambda: claude("other", messages=again, **asked))
    raises(anthropic.BadRequestError, lambda: claude(thinking={"type": "enabled", "budget_tokens": 9}))
    raises(anthropic.BadRequestError, lambda: claude(extra_body={"temperature": 0.5}, **asked))


@check
def anthropic_tools():
    """anthropic: text and parallel calls in one message, arguments in fragments, results"""
    with anthropic_client().messages.stream(
        model="m?calls=2&preamble", max_tokens=500, tools=[CLAUDE_TOOL],
        messages=[{"role": "user", "content": "use get_weather"}],
    ) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use", "tool_use"]
    assert len(parts) > 4 and final.stop_reason == "tool_use"
    assert final.content[1].input == ARGUMENTS
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": f"result {n}"}
               for n, block in enumerate(final.content[1:])]
    messages = [{"role": "user", "content": "use get_weather"},
                {"role": "assistant", "content": final.content},
                {"role": "user", "content": results}]
    assert "result 0 result 1" in claude(messages=messages, tools=[CLAUDE_TOOL]).content[0].text
    messages[2]["content"] = results[:1]
    error = raises(anthropic.BadRequestError, lambda: claude(messages=messages, tools=[CLAUDE_TOOL]))
    assert "tool_use` ids were found without" in str(error)
    forced = claude(tools=[CLAUDE_TOOL], tool_choice={"type": "tool", "name": "get_weather"})
    assert forced.content[0].type == "tool_use"


@check
def anthropic_structured():
    """anthropic: a structured output is valid JSON for its schema"""
    answer = claude(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert json.loads(answer.content[0].text) == ARGUMENTS


@check
def anthropic_count_and_models():
    """anthropic: count_tokens, the list of models"""
    client = anthropic_client()
    counted = client.messages.count_tokens(model="m", messages=[{"role": "user", "content": RAIN}])
    assert counted.input_tokens == claude().usage.input_tokens
    assert [model.id for model in client.models.list()] == ["mock-small", "mock-large"]


@check
def anthropic_errors():
    """anthropic: each status gives its class, 529 included; errors in and instead of streams"""
    for status, kind in [(400, anthropic.BadRequestError), (401, anthropic.AuthenticationError),
                         (403, anthropic.PermissionDeniedError), (404, anthropic.NotFoundError),
                         (413, anthropic.APIStatusError), (429, anthropic.RateLimitError),
                         (500, anthropic.InternalServerError), (529, anthropic.APIStatusError)]:
        for stream in (False, True):
            error = raises(kind, lambda: claude(f"m?status={status}", stream=stream))
            assert error.status_code == status and error.body["type"] == "error", error.body
    assert raises(anthropic.APIStatusError, lambda: claude("m?status=529")).body["error"]["type"] \
        == "overloaded_error"
    raises(anthropic.APIStatusError,
           lambda: list(claude("m?error_frame=2&error_type=overloaded_error", stream=True)))
    raises(anthropic.BadRequestError, lambda: claude(extra_body={"n": 2}))
    error = raises(anthropic.RateLimitError, lambda: anthropic_client(api_key="bad-429").messages.create(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]))
    kinds = [event.type for event in claude("m?duplicate_start=1", stream=True)]
    assert kinds.count("message_start") == 2
    assert [e.type for e in claude("m?no_done", stream=True)][-1] == "message_delta"
    date = raises(anthropic.RateLimitError, lambda: claude("m?status=429&retry_after_date=60"))
    assert date.response.headers["retry-after"].endswith(" GMT")


# --- Gemini


@functools.cache  # a client that is forgotten closes
def gemini(api_key="k"):
    options = genai_types.HttpOptions(base_url=BASE, retry_options=None)
    return genai.Client(api_key=api_key, http_options=options)


def gemini_model(script):
    """The SDK accepts no `?` in a model's name: encoded it passes."""
    return script.replace("?", "%3F").replace("&", "%26")


GEMINI_TOOL = genai_types.Tool(function_declarations=[genai_types.FunctionDeclaration(
    name="get_weather",
    parameters=genai_types.Schema(
        type="OBJECT",
        properties={"city": genai_types.Schema(type="STRING"),
                    "unit": genai_types.Schema(type="STRING", enum=["celsius", "fahrenheit"])},
        required=["city", "unit"],
    ),
)])


def gemini_config(**options):
    off = genai_types.AutomaticFunctionCallingConfig(disable=True)
    return genai_types.GenerateContentConfig(automatic_function_calling=off, **options)


@check
def gemini_whole():
    """google-genai: text, finish reason, usage without thoughts among the candidates'"""
    answer = gemini().models.generate_content(
        model=gemini_model("m?cached=1"), contents=RAIN,
        config=gemini_config(thinking_config=genai_types.ThinkingConfig(include_thoughts=True)),
    )
    assert answer.text.endswith("rain?") and answer.candidates[0].finish_reason == "STOP"
    usage = answer.usage_metadata
    assert usage.thoughts_token_count > 0 and usage.cached_content_token_count == 1
    assert usage.total_token_count == (
        usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count)
    cut = gemini().models.generate_content(
        model="m", contents=RAIN, config=gemini_config(max_output_tokens=3))
    assert cut.candidates[0].finish_reason == "MAX_TOKENS"


@check
def gemini_stream():
    """google-genai: a stream of responses, usage rising on each, the reason on the last"""
    chunks = list(gemini().models.generate_content_stream(model="m", contents=RAIN))
    assert "".join(chunk.text or "" for chunk in chunks).endswith("rain?")
    counts = [chunk.usage_metadata.candidates_token_count for chunk in chunks]
    assert counts == sorted(counts) and counts[-1] > counts[0]
    reasons = [chunk.candidates[0].finish_reason for chunk in chunks]
    assert reasons[-1] == "STOP" and not any(reasons[:-1])
    odd = gemini_model("m?split=5&crlf")  # the SDK reads no comments
    again = "".join(c.text or "" for c in gemini().models.generate_content_stream(model=odd, contents=RAIN))
    assert again.endswith("rain?")


@check
def gemini_tools():
    """google-genai: parallel calls with a signature, their results, the answer"""
    thoughts = genai_types.ThinkingConfig(include_thoughts=True)
    config = gemini_config(tools=[GEMINI_TOOL], thinking_config=thoughts)
    answer = gemini().models.generate_content(
        model=gemini_model("m?calls=2"), contents="use get_weather", config=config)
    assert [call.args for call in answer.function_calls] == [ARGUMENTS] * 2
    signed = [part.thought_signature for part in answer.candidates[0].content.parts]
    assert [bool(signature) for signature in signed] == [False, True, False]
    results = [genai_types.Part.from_function_response(
        name=call.name, response={"result": f"result {n}"})
        for n, call in enumerate(answer.function_calls)]
    contents = [genai_types.UserContent("use get_weather"), answer.candidates[0].content,
                genai_types.UserContent(results)]
    final = gemini().models.generate_content(model="m", contents=contents, config=config)
    assert "result 0 result 1" in final.text
    raises(genai_errors.ClientError, lambda: gemini().models.generate_content(
        model="other", contents=contents, config=config))
    streamed = list(gemini().models.generate_content_stream(
        model="m", contents="use get_weather", config=config))
    assert [call.args for chunk in streamed for call in chunk.function_calls or []] == [ARGUMENTS]


@check
def gemini_structured():
    """google-genai: a structured output in the SDK's own schema"""
    config = gemini_config(response_mime_type="application/json", response_schema=City)
    assert isinstance(
        gemini().models.generate_content(model="m", contents=RAIN, config=config).parsed, City)


@check
def gemini_count_and_embed():
    """google-genai: count_tokens, embeddings"""
    assert gemini().models.count_tokens(model="m", contents=RAIN).total_tokens > 2
    embedded = gemini().models.embed_content(model="m", contents=["one", "two"])
    assert [len(e.values) for e in embedded.embeddings] == [3072, 3072]


@check
def gemini_errors():
    """google-genai: google.rpc statuses, RetryInfo, a blocked prompt, keys refused"""
    ask = lambda script, client=gemini(): client.models.generate_content(
        model=gemini_model(script), contents=RAIN)
    for status, name in [(400, "INVALID_ARGUMENT"), (403, "PERMISSION_DENIED"),
                         (429, "RESOURCE_EXHAUSTED"), (503, "UNAVAILABLE")]:
        error = raises(genai_errors.APIError, lambda: ask(f"m?status={status}"))
        assert (error.code, error.status) == (status, name)
    error = raises(genai_errors.ClientError, lambda: ask("m?status=429&retry_in_body=7"))
    assert error.details["error"]["details"][0]["retryDelay"] == "7s"
    assert ask("m?reject=policy").prompt_feedback.block_reason == "PROHIBITED_CONTENT"
    for status in (401, 403, 429):
        assert raises(genai_errors.ClientError, lambda: ask("m", gemini(f"bad-{status}"))).code == status


# --- Azure OpenAI


def azure(**options):
    return openai.AzureOpenAI(azure_endpoint=BASE, max_retries=0, **{
        "api_key": "k", "api_version": "2024-10-21", **options})


@check
def azure_chat():
    """openai.AzureOpenAI: the deployment answers, filter results come first"""
    ask = lambda **more: azure().chat.completions.create(
        model="m?chunks=3", messages=[{"role": "user", "content": RAIN}], **more)
    answer = ask()
    assert answer.choices[0].finish_reason == "stop" and answer.model == "m"
    assert answer.model_extra["prompt_filter_results"][0]["prompt_index"] == 0
    chunks = list(ask(stream=True))
    assert chunks[0].choices == [] and "prompt_filter_results" in chunks[0].model_extra
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) == 3
    assert len(azure().embeddings.create(model="m", input="x").data[0].embedding) == 1536


@check
def azure_errors():
    """openai.AzureOpenAI: keys refused, the filter's error, no api-version"""
    ask = lambda model="m", **options: azure(**options).chat.completions.create(
        model=model, messages=[{"role": "user", "content": RAIN}])
    assert raises(openai.AuthenticationError, lambda: ask(api_key="bad-401")).code == "401"
    error = raises(openai.BadRequestError, lambda: ask("m?reject=policy"))
    assert error.code == "content_filter"
    assert error.body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    status, body = post("/openai/deployments/m/chat/completions", {"api-key": "k"}, {"messages": []})
    assert status == 400 and "api-version" in body["error"]["message"]


# --- Bedrock


def bedrock(key="AKIDEXAMPLE", secret=SECRET):
    return boto3.client(
        "bedrock-runtime", region_name="eu-central-1", endpoint_url=BASE,
        aws_access_key_id=key, aws_secret_access_key=secret,
        config=botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=10),
    )


def converse(model="anthropic.m-v1:0", text=RAIN, client=None, **more):
    messages = more.pop("messages", [{"role": "user", "content": [{"text": text}]}])
    return (client or bedrock()).converse(modelId=model, messages=messages, **more)


def converse_stream(model="anthropic.m-v1:0", text=RAIN, **more):
    messages = [{"role": "user", "content": [{"text": text}]}]
    return list(bedrock().converse_stream(modelId=model, messages=messages, **more)["stream"])


BEDROCK_TOOLS = {"tools": [{"toolSpec": {"name": "get_weather", "description": "The weather",
                                        "inputSchema": {"json": SCHEMA}}}]}
THINK = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@check
def bedrock_whole():
    """boto3 converse: text, usage, stop reasons; the signature was recomputed"""
    answer = converse()
    assert answer["output"]["message"]["content"][0]["text"].endswith("rain?")
    assert answer["stopReason"] == "end_turn" and answer["usage"]["totalTokens"] > 10
    assert converse(inferenceConfig={"maxTokens": 3})["stopReason"] == "max_tokens"
    cached = converse("m?tokens_in=100&cached=40")["usage"]
    assert (cached["inputTokens"], cached["cacheReadInputTokens"]) == (60, 40)


@check
def bedrock_stream():
    """boto3 converse_stream: events in order, with reasoning and its signature"""
    events = converse_stream(additionalModelRequestFields=THINK)
    kinds = [next(iter(event)) for event in events]
    assert kinds[0] == "messageStart" and kinds[-2:] == ["messageStop", "metadata"]
    deltas = [e["contentBlockDelta"]["delta"] for e in events if "contentBlockDelta" in e]
    assert "".join(delta.get("text", "") for delta in deltas).endswith("rain?")
    reasoning = [delta["reasoningContent"] for delta in deltas if "reasoningContent" in delta]
    assert "signature" in reasoning[-1] and events[-1]["metadata"]["usage"]["outputTokens"] > 5


@check
def bedrock_tools():
    """boto3: calls in fragments, results, the answer; results that are missing are refused"""
    events = converse_stream("m?calls=2", "use get_weather", toolConfig=BEDROCK_TOOLS)
    starts = [e["contentBlockStart"] for e in events if "contentBlockStart" in e]
    assert [start["contentBlockIndex"] for start in starts] == [0, 1]
    parts = [e["contentBlockDelta"]["delta"]["toolUse"]["input"]
             for e in events if e.get("contentBlockDelta", {}).get("contentBlockIndex") == 0]
    assert len(parts) > 2 and json.loads("".join(parts)) == ARGUMENTS
    answer = converse("m", "use get_weather", toolConfig=BEDROCK_TOOLS)
    call = answer["output"]["message"]["content"][0]["toolUse"]
    assert answer["stopReason"] == "tool_use" and call["input"] == ARGUMENTS
    result = {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"json": {"t": 8}}]}}
    messages = [{"role": "user", "content": [{"text": "use get_weather"}]},
                answer["output"]["message"], {"role": "user", "content": [result]}]
    final = converse(messages=messages, toolConfig=BEDROCK_TOOLS)
    assert '{"t":8}' in final["output"]["message"]["content"][0]["text"]
    messages[2]["content"] = [{"text": "and?"}]
    refused(lambda: converse(messages=messages, toolConfig=BEDROCK_TOOLS), "ValidationException")
    refused(lambda: converse(messages=messages), "ValidationException")


@check
def bedrock_structured():
    """boto3: a structured output"""
    schema = {"jsonSchema": {"name": "city", "schema": json.dumps(SCHEMA)}}
    answer = converse(outputConfig={"textFormat": {"type": "json_schema", "structure": schema}})
    assert json.loads(answer["output"]["message"]["content"][0]["text"]) == ARGUMENTS


@check
def bedrock_errors():
    """boto3: exceptions by name, in streams too; wrong signatures; keys refused; bad frames"""
    refused(lambda: converse("m?status=429"), "ThrottlingException", 429)
    refused(lambda: converse("m?status=503"), "ServiceUnavailableException", 503)
    refused(lambda: converse("m?reject=context"), "ValidationException", 400)
    refused(lambda: converse(client=bedrock(secret="wrong")), "InvalidSignatureException", 403)
    refused(lambda: converse(client=bedrock("AKIA-bad-403", "x")), "AccessDeniedException", 403)
    assert converse(client=bedrock("AKIAOTHER", "any"))["stopReason"] == "end_turn"
    error = raises(botocore.exceptions.EventStreamError,
                   lambda: converse_stream("m?error_frame=2&error_type=ThrottlingException"))
    assert "throttlingException" in str(error)
    raises(Exception, lambda: converse_stream("m?noise=2"))
    assert "messageStop" not in converse_stream("m?close=2")[-1]
    kinds = [next(iter(event)) for event in converse_stream("m?duplicate_start=1")]
    assert kinds.count("messageStart") == 2
    assert "metadata" not in converse_stream("m?no_done")[-1]


# --- Cohere


def cohere_client(api_key="k"):
    return cohere.ClientV2(api_key=api_key, base_url=BASE)


COHERE_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


def command(model="m", text=RAIN, client=None, **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    options = {"max_retries": 0}
    return (client or cohere_client()).chat(
        model=model, messages=messages, request_options=options, **more)


@check
def cohere_whole():
    """cohere: text, usage, finish reasons, thinking"""
    answer = command(thinking={"type": "enabled"})
    assert [item.type for item in answer.message.content] == ["thinking", "text"]
    assert answer.message.content[1].text.endswith("rain?") and answer.finish_reason == "COMPLETE"
    assert answer.usage.tokens.output_tokens > 5
    assert command(max_tokens=3).finish_reason == "MAX_TOKENS"


@check
def cohere_stream():
    """cohere: events in order, their text, the usage at the end"""
    events = list(cohere_client().chat_stream(model="m", messages=[{"role": "user", "content": RAIN}]))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message-start", "content-start"]
    assert kinds[-2:] == ["content-end", "message-end"]
    text = "".join(e.delta.message.content.text for e in events if e.type == "content-delta")
    assert text.endswith("rain?") and events[-1].delta.usage.tokens.input_tokens > 2


@check
def cohere_tools():
    """cohere: a plan and parallel calls in fragments, results, the answer"""
    events = list(cohere_client().chat_stream(
        model="m?calls=2&preamble", tools=[COHERE_TOOL],
        messages=[{"role": "user", "content": "use get_weather"}]))
    kinds = [event.type for event in events]
    assert kinds.count("tool-call-start") == 2 and "tool-plan-delta" in kinds
    parts = [e.delta.message.tool_calls.function.arguments for e in events
             if e.type == "tool-call-delta" and e.index == 1]
    assert json.loads("".join(parts)) == ARGUMENTS
    answer = command("m", "use get_weather", tools=[COHERE_TOOL])
    call = answer.message.tool_calls[0]
    assert answer.finish_reason == "TOOL_CALL" and json.loads(call.function.arguments) == ARGUMENTS
    messages = [{"role": "user", "content": "use get_weather"}, answer.message,
                {"role": "tool", "tool_call_id": call.id, "content": "8 degrees"}]
    final = command(messages=messages, tools=[COHERE_TOOL])
    assert "8 degrees" in final.message.content[0].text


@check
def cohere_embed_and_errors():
    """cohere: embeddings, a structured output, statuses, keys refused"""
    embedded = cohere_client().embed(
        model="m", texts=["a", "b"], input_type="search_query", embedding_types=["float"])
    assert [len(vector) for vector in embedded.embeddings.float_] == [1536, 1536]
    answer = command(response_format={"type": "json_object", "json_schema": SCHEMA})
    assert json.loads(answer.message.content[0].text) == ARGUMENTS
    raises(cohere.errors.TooManyRequestsError, lambda: command("m?status=429"))
    raises(cohere.errors.UnauthorizedError, lambda: command(client=cohere_client("bad-401")))
    raises(cohere.errors.BadRequestError, lambda: command("m?nonsense"))


# --- What every dialect does


SHORT = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/responses": {"input": "x"},
    "/v1/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 99},
    "/v2/chat": {"messages": [{"role": "user", "content": "x"}]},
    "/v1beta/models/MODEL:generateContent": {"contents": [{"parts": [{"text": "x"}]}]},
    "/model/MODEL/converse": {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
    "/openai/deployments/MODEL/chat/completions?api-version=1": {
        "messages": [{"role": "user", "content": "x"}]},
}
KEYS = {"authorization": "Bearer k", "x-api-key": "k", "api-key": "k", "x-goog-api-key": "k",
        "anthropic-version": "2023-06-01"}


@check
def misbehaviour_everywhere():
    """html, empty, error_200, wrong type and length, garbage, retry-after: in every dialect"""
    for path, body in SHORT.items():
        def ask(script, path=path, body=body):
            model = urllib.parse.quote(script, safe="")
            body = body if "MODEL" in path else {"model": script, **body}
            return raw(path.replace("MODEL", model), KEYS, body)

        assert ask("m")[0] == 200, (path, ask("m"))
        status, headers, text = ask("m?html&status=502")
        assert (status, headers["content-type"]) == (502, "text/html; charset=utf-8"), path
        assert ask("m?empty")[2] == b"", path
        status, _, text = ask("m?error_200&error=boom")
        assert status == 200 and b"boom" in text, path
        assert ask("m?content_type=text/plain")[1]["content-type"] == "text/plain", path
        assert len(ask("m?length=5")[2]) == 5, path
        raises(ValueError, lambda: json.loads(ask("m?garbage=0")[2]))
        status, headers, _ = ask("m?status=429&retry_after=9")
        assert (status, headers["retry-after"]) == (429, "9"), path
        assert ask("m?status=429&retry_in_body=31")[2].count(b"31") >= 1, path
        assert b"4711" in ask("m?tokens_in=4711")[2], path
        assert b"4711" not in ask("m?usage=none&tokens_in=4711")[2], path
    assert recorded()[-1]["path"].startswith("/openai/deployments/m%3F")


def recorded():
    return json.load(urllib.request.urlopen(BASE + "/_requests"))["data"]


def raw(path, headers, body):
    request = urllib.request.Request(
        BASE + path, json.dumps(body).encode(), {"content-type": "application/json", **headers})
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.headers, answer.read()


def post(path, headers, body):
    status, _, text = raw(path, headers, body)
    return status, json.loads(text)


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind}")


def refused(call, code, status=None):
    error = raises(botocore.exceptions.ClientError, call)
    assert error.response["Error"]["Code"] == code, error
    assert status in (None, error.response["ResponseMetadata"]["HTTPStatusCode"]), error


def main():
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    failed = 0
    for function in CHECKS:
        try:
            function()
            print(f"ok      {function.__name__}: {function.__doc__}")
        except Exception as error:  # report every check
            failed += 1
            print(f"FAILED  {function.__name__}: {type(error).__name__}: {error}")
    sdks = (openai, anthropic, genai, boto3, cohere)
    versions = ", ".join(f"{sdk.__name__} {sdk.__version__}" for sdk in sdks)
    print(f"{versions}: {len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
