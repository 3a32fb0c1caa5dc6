// The `openai` SDK for Node through a gateway over every kind of provider.
//
//     npm ci && node openai_client.mjs http://127.0.0.1:8080
//
// Expects a gateway with gateway.toml over the scripted upstream. Prints one line for each check;
// exits 1 if one fails.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import {
  ANSWER, CALLED, CALLS, CITY, MAIL, MODELS, QUESTION, all, check, raises, report, version,
} from "./checks.mjs";

const base = process.argv[2].replace(/\/$/, "");
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", maxRetries: 0, timeout: 30000 });
const user = [{ role: "user", content: QUESTION }];
const calling = [{ role: "user", content: CALLS }];
const functions = [
  { name: "get_weather", parameters: CITY }, { name: "send_mail", parameters: MAIL },
];
const tools = functions.map((f) => ({ type: "function", function: f }));
const responseTools = functions.map((f) => ({ type: "function", strict: false, ...f }));
const Day = z.object({ name: z.string(), degrees: z.number() });

const called = (calls) => calls.map((call) => [call.name, JSON.parse(call.arguments)]);

check("a whole answer, with finish reason and usage", async (model) => {
  const answer = await client.chat.completions.create({ model, messages: user });
  assert.equal(answer.choices[0].message.content, ANSWER);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
}, MODELS);

check("a stream, put together by the SDK, with usage", async (model) => {
  const stream = client.chat.completions.stream({
    model, messages: user, stream_options: { include_usage: true },
  });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, ANSWER);
  assert.equal(final.choices[0].finish_reason, "stop");
  assert.ok((await stream.totalUsage()).completion_tokens > 0);
}, MODELS);

check("two parallel calls, their results, the answer", async (model) => {
  const first = await client.chat.completions.create({ model, messages: calling, tools });
  const { message, finish_reason } = first.choices[0];
  assert.equal(finish_reason, "tool_calls");
  assert.deepEqual(called(message.tool_calls.map((call) => call.function)), CALLED);
  const results = message.tool_calls.map((call) => (
    { role: "tool", tool_call_id: call.id, content: `${call.function.name} done` }));
  const second = await client.chat.completions.create(
    { model, messages: [...calling, message, ...results], tools });
  assert.match(second.choices[0].message.content, /send_mail done/);
}, MODELS);

check("runTools(): the SDK's own loop, streamed", async (model) => {
  const asked = [];
  const run = client.chat.completions.runTools({
    model, messages: calling, stream: true,
    tools: functions.map((f) => ({ type: "function", function: {
      ...f, parse: JSON.parse,
      function: (given) => { asked.push([f.name, given]); return `${f.name} done`; },
    } })),
  });
  assert.match(await run.finalContent(), /send_mail done/);
  assert.deepEqual(asked, CALLED);
}, MODELS);

check("parse() with a zod schema, on chat and on responses", async (model) => {
  const chat = await client.chat.completions.parse(
    { model, messages: user, response_format: zodResponseFormat(Day, "day") });
  Day.parse(chat.choices[0].message.parsed);
  const response = await client.responses.parse(
    { model, input: QUESTION, text: { format: zodTextFormat(Day, "day") } });
  Day.parse(response.output_parsed);
}, MODELS);

check("a response, whole and as events", async (model) => {
  const whole = await client.responses.create({ model, input: QUESTION });
  assert.equal(whole.output_text, ANSWER);
  assert.ok(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);
  const stream = client.responses.stream({ model, input: user });
  const events = await all(stream);
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal((await stream.finalResponse()).output_text, ANSWER);
}, MODELS);

check("function calls of a response, streamed, their outputs, the answer", async (model) => {
  const stream = client.responses.stream({ model, input: calling, tools: responseTools });
  const first = await stream.finalResponse();
  const calls = first.output.filter((item) => item.type === "function_call");
  assert.deepEqual(called(calls), CALLED);
  // What the SDK's helper adds to a call is not the protocol's.
  const output = first.output.map(({ parsed_arguments, ...item }) => item);
  const results = calls.map((call) => (
    { type: "function_call_output", call_id: call.call_id, output: `${call.name} done` }));
  const second = await client.responses.create(
    { model, input: [...calling, ...output, ...results], tools: responseTools });
  assert.match(second.output_text, /send_mail done/);
}, MODELS);

check("embeddings: the SDK's base64 default equals float", async (model) => {
  const [one, other] = await Promise.all([undefined, "float"].map((encoding_format) => (
    client.embeddings.create({ model, input: ["a fox"], encoding_format }))));
  assert.ok(one.data[0].embedding.length > 100);
  one.data[0].embedding.forEach((value, i) => (
    assert.ok(Math.abs(value - other.data[0].embedding[i]) < 1e-6)));
}, ["openai-like/e", "google/e", "microsoft/e", "coherent/e"]);

check("failures are the SDK's exceptions", async (model) => {
  for (const [script, kind, status] of [
    ["status=400", OpenAI.BadRequestError, 400], ["status=429", OpenAI.RateLimitError, 429],
    ["status=500", OpenAI.InternalServerError, 502],
  ]) {
    await raises(kind, () => client.chat.completions.create(
      { model: `${model}?${script}`, messages: user }), status);
    await raises(kind, () => client.responses.create(
      { model: `${model}?${script}`, input: user, stream: true }), status);
  }
  await raises(OpenAI.APIError, async () => all(await client.chat.completions.create(
    { model: `${model}?cut=2`, messages: user, stream: true })));
}, MODELS);

check("models.list()", async () => {
  const models = await all(client.models.list());
  assert.equal(models[0].id, "auto");
});

await report(`openai ${await version("openai")} for Node`);
