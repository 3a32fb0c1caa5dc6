// What the clients' checks share: the list of checks, the models they run over, the report.
// The same as checks.py.

import assert from "node:assert/strict";

/** A model at every kind of provider of gateway.toml; the scripted upstream serves any name. */
export const MODELS = [
  "openai-like", "responder", "claude", "google", "microsoft", "amazon", "coherent",
].map((provider) => `${provider}/m`);
export const QUESTION = "What is rain?";
/** What it answers. */
export const ANSWER =
  "This is m, a scripted model: no provider was called. You asked: What is rain?";

export const CITY = {
  type: "object", properties: { city: { type: "string" } }, required: ["city"],
};
export const MAIL = {
  type: "object", required: ["to", "urgent"],
  properties: { to: { type: "string" }, urgent: { type: "boolean" } },
};
/** The upstream calls the tools that a question names, with the least its schema allows. */
export const CALLS = "First get_weather, then send_mail.";
export const CALLED = [
  ["get_weather", { city: "example" }], ["send_mail", { to: "example", urgent: true }],
];

const checks = [];

/** Adds a check: once, or `over` models, each of which it is given. */
export function check(says, run, over = null) {
  checks.push({ says, run, over });
}

/** The async iterable as an array. */
export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** Calls, expects one of these exceptions with this status. */
export async function raises(kind, call, status) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error?.constructor?.name}: ${error}`);
    if (status !== undefined) assert.equal(error.status ?? error.statusCode, status);
    return;
  }
  assert.fail(`expected ${kind.name}`);
}

/** Runs all checks, reports, and exits. */
export async function report(client) {
  let failed = 0;
  for (const { says, run, over } of checks) {
    const failures = [];
    for (const model of over ?? [undefined]) {
      try {
        await run(model);
      } catch (error) {
        failures.push(`          ${model ?? ""}  ${error}`.slice(0, 600));
      }
    }
    failed += failures.length > 0;
    const count = over ? ` (${over.length} models)` : "";
    console.log([`${failures.length ? "FAILED " : "ok     "} ${says}${count}`, ...failures].join("\n"));
  }
  console.log(`${client}: ${checks.length - failed} passed, ${failed} failed`);
  process.exit(failed > 0 ? 1 : 0);
}

/** The version of an installed package. */
export async function version(name) {
  const { readFile } = await import("node:fs/promises");
  const path = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(await readFile(path, "utf8")).version;
}
