// Every method of npm's ollama that asks this server: node ollama.mjs URL MODEL EMBEDDER
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [host, model, embedder] = process.argv.slice(2);
const ollama = new Ollama({ host });
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const options = { temperature: 0, num_predict: 40 };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather in a city", parameters } }];

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const { version } = await ollama.version();
assert.match(version, /^\d+\.\d+\.\d+$/);
const listed = (await ollama.list()).models.map((one) => one.name);
assert(listed.includes(`${model}:latest`), listed.join());
const shown = await ollama.show({ model });
assert(shown.capabilities.includes("tools") && shown.model_info["general.architecture"]);

for (const wanted of [{ messages: [{ role: "user", content: "How do I list models?" }] }, { messages, tools }]) {
  const whole = await ollama.chat({ model, options, ...wanted });
  const parts = await all(await ollama.chat({ model, options, stream: true, ...wanted }));
  assert.equal(parts.map((one) => one.message.content).join(""), whole.message.content);
  assert.deepEqual(parts.flatMap((one) => one.message.tool_calls ?? []).map((one) => one.function),
    (whole.message.tool_calls ?? []).map((one) => one.function));
  const last = parts.at(-1);
  assert(last.done && last.total_duration > 0 && last.eval_count === whole.eval_count);
}
const called = await ollama.chat({ model, options, messages, tools });
const [call] = called.message.tool_calls;
assert.deepEqual([call.function.name, call.function.arguments], ["get_weather", { city: "Paris" }]);
const told = { role: "tool", tool_name: "get_weather", content: "It rains in Paris." };
const answer = await ollama.chat({ model, options, tools, messages: [...messages, called.message, told] });
assert(answer.message.content && !answer.message.tool_calls);
const format = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
assert.deepEqual(Object.keys(JSON.parse((await ollama.chat({ model, options, messages, format })).message.content)), ["ok"]);

const said = await ollama.generate({ model, prompt: "How do I list models?", options });
const pieces = await all(await ollama.generate({ model, prompt: "How do I list models?", options, stream: true }));
assert.equal(pieces.map((one) => one.response).join(""), said.response);
assert(said.response && said.context.length && pieces.at(-1).done_reason);

const { embeddings } = await ollama.embed({ model: embedder, input: ["one", "two"] });
const { embedding } = await ollama.embeddings({ model: embedder, prompt: "one" });
assert(embeddings.length === 2 && embeddings[0].length === embedding.length);
assert((await ollama.ps()).models.some((one) => one.name === `${model}:latest` && one.expires_at));

const made = await ollama.create({ model: "made", from: model, system: "Be brief.", parameters: { temperature: 0 } });
assert.equal(made.status, "success");
const steps = await all(await ollama.create({ model: "again", from: "made", stream: true }));
assert.equal(steps.at(-1).status, "success");
assert.equal((await ollama.copy({ source: "made", destination: "other" })).status, "success");
assert.equal((await ollama.show({ model: "other" })).system, "Be brief.");
for (const name of ["made", "again", "other"]) assert.equal((await ollama.delete({ model: name })).status, "success");
await assert.rejects(ollama.show({ model: "other" }), (error) => error.name === "ResponseError" && error.status_code === 404);

assert.equal((await ollama.pull({ model })).status, "success");
assert.equal((await all(await ollama.pull({ model, stream: true }))).at(-1).status, "success");
await assert.rejects(ollama.push({ model }));
await assert.rejects(async () => all(await ollama.push({ model, stream: true })));
await assert.rejects(ollama.systemone({ model }));

const long = await ollama.generate({ model, prompt: "Tell me everything.", stream: true, options: { num_predict: 400 } });
setTimeout(() => long.abort(), 1);
await assert.rejects(all(long), { name: "AbortError" });
console.log("ok");
