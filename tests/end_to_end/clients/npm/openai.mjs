// npm's openai: chat, responses, embeddings, models: node openai.mjs URL MODEL EMBEDDER
import assert from "node:assert/strict";
import OpenAI from "openai";

const [host, model, embedder] = process.argv.slice(2);
const openai = new OpenAI({ baseURL: `${host}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const described = { name: "get_weather", description: "The weather in a city", parameters };
const tools = [{ type: "function", function: described }];

const ids = [];
for await (const one of openai.models.list()) ids.push(one.id);
assert(ids.includes(model) && ids.includes(embedder));

const whole = await openai.chat.completions.create({ model, messages, tools, temperature: 0 });
const [call] = whole.choices[0].message.tool_calls;
assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["get_weather", { city: "Paris" }]);
const told = { role: "tool", tool_call_id: call.id, content: "It rains in Paris." };
const stream = openai.chat.completions.stream({
  model, tools, temperature: 0, messages: [...messages, whole.choices[0].message, told],
});
assert((await stream.finalChatCompletion()).choices[0].message.content);

const input = "What is the weather in Paris?";
const flat = [{ type: "function", ...described, strict: false }];
const response = await openai.responses.create({ model, input, tools: flat, temperature: 0 });
assert.equal(response.output.at(-1).name, "get_weather");
const output = { type: "function_call_output", call_id: response.output.at(-1).call_id, output: "It rains in Paris." };
const types = [];
let text = "";
const wanted = { model, input: [output], previous_response_id: response.id, temperature: 0, stream: true };
for await (const event of await openai.responses.create(wanted)) {
  assert.equal(event.sequence_number, types.length);
  types.push(event.type);
  if (event.type === "response.output_text.delta") text += event.delta;
}
assert.deepEqual([types[0], types.at(-1)], ["response.created", "response.completed"]);
assert(text);
await openai.responses.delete(response.id);

const { data } = await openai.embeddings.create({ model: embedder, input: ["one", "two"] });
assert(data.length === 2 && Math.abs(data[0].embedding.reduce((sum, one) => sum + one * one, 0) - 1) < 1e-3);
await assert.rejects(openai.chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError);
console.log("ok");
