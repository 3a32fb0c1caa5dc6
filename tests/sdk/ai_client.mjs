// The Vercel AI SDK through a gateway over every kind of provider: its OpenAI provider on chat and
// on responses, and its Anthropic provider.
//
//     npm ci && node ai_client.mjs http://127.0.0.1:8080
//
// Expects a gateway with gateway.toml over the scripted upstream. Prints one line for each check;
// exits 1 if one fails.

import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import {
  APICallError, embedMany, generateObject, generateText, isStepCount, streamText, tool,
} from "ai";
import { z } from "zod";

import {
  ANSWER, CALLED, CALLS, MODELS, QUESTION, all, check, raises, report, version,
} from "./checks.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const base = process.argv[2].replace(/\/$/, "");
const openai = createOpenAI({ baseURL: `${base}/v1`, apiKey: "any" });
const anthropic = createAnthropic({ baseURL: `${base}/v1`, apiKey: "any" });
const SURFACES = [(m) => openai.chat(m), (m) => openai.responses(m), (m) => anthropic(m)];
const common = { maxRetries: 0, maxOutputTokens: 3000 };
const Day = z.object({ name: z.string(), degrees: z.number() });

/** The check on each surface, for each model. */
function onEach(says, run) {
  check(says, async (model) => {
    for (const surface of SURFACES) await run(surface(model));
  }, MODELS);
}

const toolset = (asked) => ({
  get_weather: tool({
    description: "The weather", inputSchema: z.object({ city: z.string() }),
    execute: async (input) => { asked.push(["get_weather", input]); return "get_weather done"; },
  }),
  send_mail: tool({
    description: "Mail", inputSchema: z.object({ to: z.string(), urgent: z.boolean() }),
    execute: async (input) => { asked.push(["send_mail", input]); return "send_mail done"; },
  }),
});

onEach("generateText()", async (model) => {
  const answer = await generateText({ ...common, model, prompt: QUESTION });
  assert.equal(answer.text, ANSWER);
  assert.equal(answer.finishReason, "stop");
  assert.ok(answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0);
});

onEach("streamText()", async (model) => {
  const answer = streamText({ ...common, model, prompt: QUESTION });
  assert.equal((await all(answer.textStream)).join(""), ANSWER);
  assert.equal(await answer.finishReason, "stop");
  assert.ok((await answer.usage).outputTokens > 0);
});

onEach("generateText() with tools: the SDK's own loop", async (model) => {
  const asked = [];
  const answer = await generateText({
    ...common, model, prompt: CALLS, tools: toolset(asked), stopWhen: isStepCount(3),
  });
  assert.deepEqual(asked, CALLED);
  assert.match(answer.text, /send_mail done/);
});

onEach("streamText() with tools: the SDK's own loop", async (model) => {
  const asked = [];
  const answer = streamText({
    ...common, model, prompt: CALLS, tools: toolset(asked), stopWhen: isStepCount(3),
  });
  await answer.consumeStream();
  assert.deepEqual(asked, CALLED);
  assert.match(await answer.text, /send_mail done/);
});

onEach("generateObject()", async (model) => {
  Day.parse((await generateObject({ ...common, model, prompt: QUESTION, schema: Day })).object);
});

check("embedMany()", async () => {
  const { embeddings } = await embedMany(
    { model: openai.embedding("google/e"), values: ["a", "b"], maxRetries: 0 });
  assert.ok(embeddings.length === 2 && embeddings[0].length > 100);
});

check("failures are the SDK's exceptions", async (name) => {
  for (const surface of SURFACES) {
    for (const [script, status] of [["status=400", 400], ["status=429", 429]]) {
      await raises(APICallError, () => generateText(
        { ...common, model: surface(`${name}?${script}`), prompt: QUESTION }), status);
    }
    const broken = [];
    const answer = streamText({
      ...common, model: surface(`${name}?cut=2`), prompt: QUESTION,
      onError: ({ error }) => broken.push(error),
    });
    await answer.consumeStream({ onError: () => {} });
    assert.equal(broken.length > 0, true, "the stream looked whole");
  }
}, MODELS);

check("the policy, on each surface", async () => {
  for (const surface of SURFACES) {
    const answer = await generateText({ ...common, model: surface("auto"), prompt: QUESTION });
    assert.equal(answer.response.headers["x-weighbridge-model"], "small");
  }
});

await report(`ai ${await version("ai")}`);
