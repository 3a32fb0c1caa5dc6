// The `@anthropic-ai/sdk` for Node through a gateway over every kind of provider.
//
//     npm ci && node anthropic_client.mjs http://127.0.0.1:8080
//
// Expects a gateway with gateway.toml over the scripted upstream. Prints one line for each check;
// exits 1 if one fails.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

import {
  ANSWER, CALLED, CALLS, CITY, MAIL, MODELS, QUESTION, check, raises, report, version,
} from "./checks.mjs";

const client = new Anthropic(
  { baseURL: process.argv[2], apiKey: "any", maxRetries: 0, timeout: 30000 });
const messages = [{ role: "user", content: QUESTION }];
const calling = [{ role: "user", content: CALLS }];
const max_tokens = 300;
const tools = [
  { name: "get_weather", input_schema: CITY }, { name: "send_mail", input_schema: MAIL },
];
// Providers whose reasoning comes with a signature that they want back.
const SIGNERS = ["claude", "amazon"];

const called = (message) => message.content
  .filter((block) => block.type === "tool_use").map((block) => [block.name, block.input]);

check("a whole message, with stop reason and usage", async (model) => {
  const message = await client.messages.create(
    { model, max_tokens, messages, system: "Be brief." });
  assert.deepEqual(message.content.map((block) => block.text), [ANSWER]);
  assert.equal(message.stop_reason, "end_turn");
  assert.ok(message.usage.input_tokens > 0 && message.usage.output_tokens > 0);
}, MODELS);

check("a stream, put together by the SDK", async (model) => {
  const texts = [];
  const stream = client.messages.stream({ model, max_tokens, messages })
    .on("text", (text) => texts.push(text));
  const final = await stream.finalMessage();
  assert.equal(texts.join(""), ANSWER);
  assert.equal(final.content[0].text, ANSWER);
  assert.equal(final.stop_reason, "end_turn");
  assert.ok(final.usage.input_tokens > 0 && final.usage.output_tokens > 0);
}, MODELS);

check("two parallel calls, streamed, their results, the answer", async (model) => {
  const first = await client.messages.stream(
    { model, max_tokens, messages: calling, tools }).finalMessage();
  assert.equal(first.stop_reason, "tool_use");
  assert.deepEqual(called(first), CALLED);
  const results = first.content.filter((block) => block.type === "tool_use").map((block) => (
    { type: "tool_result", tool_use_id: block.id, content: `${block.name} done` }));
  const second = await client.messages.create({
    model, max_tokens, tools,
    messages: [...calling, { role: "assistant", content: first.content },
      { role: "user", content: results }],
  });
  assert.match(second.content[0].text, /send_mail done/);
}, MODELS);

check("thinking, streamed, and its way back", async (name) => {
  const model = `${name}?reasoning=2`;
  const options = {
    model, max_tokens: 3000, tools, thinking: { type: "enabled", budget_tokens: 1024 },
  };
  const first = await client.messages.stream({ ...options, messages: calling }).finalMessage();
  assert.deepEqual(called(first), CALLED);
  if (SIGNERS.includes(name.split("/")[0])) {
    assert.equal(first.content[0].type, "thinking");
    assert.ok(first.content[0].thinking && first.content[0].signature);
  }
  const results = first.content.filter((block) => block.type === "tool_use").map((block) => (
    { type: "tool_result", tool_use_id: block.id, content: "done" }));
  const second = await client.messages.create({
    ...options, messages: [...calling, { role: "assistant", content: first.content },
      { role: "user", content: results }],
  });
  assert.match(second.content.at(-1).text, /done/);
}, MODELS);

check("countTokens()", async (model) => {
  assert.ok((await client.messages.countTokens({ model, messages })).input_tokens > 0);
}, MODELS);

check("failures are the SDK's exceptions", async (model) => {
  for (const [script, kind, status] of [
    ["status=400", Anthropic.BadRequestError, 400], ["status=429", Anthropic.RateLimitError, 429],
    ["status=500", Anthropic.InternalServerError, 502],
    ["status=503", Anthropic.InternalServerError, 529],
  ]) {
    for (const stream of [false, true]) {
      await raises(kind, () => client.messages.create(
        { model: `${model}?${script}`, max_tokens, messages, stream }), status);
    }
  }
  await raises(Anthropic.AnthropicError, () => client.messages.stream(
    { model: `${model}?cut=2`, max_tokens, messages }).finalMessage());
}, MODELS);

await report(`@anthropic-ai/sdk ${await version("@anthropic-ai/sdk")}`);
