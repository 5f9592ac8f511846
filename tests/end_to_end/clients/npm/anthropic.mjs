// npm's @anthropic-ai/sdk: messages, streamed and not, a tool, counting: node anthropic.mjs URL MODEL
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const [host, model] = process.argv.slice(2);
const anthropic = new Anthropic({ baseURL: host, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ name: "get_weather", description: "The weather in a city", input_schema }];
const wanted = { model, max_tokens: 60, tools };

const whole = await anthropic.messages.create({ ...wanted, messages });
const call = whole.content.at(-1);
assert.deepEqual([whole.stop_reason, call.name, call.input], ["tool_use", "get_weather", { city: "Paris" }]);
const streamed = await anthropic.messages.stream({ ...wanted, messages }).finalMessage();
assert.deepEqual([streamed.stop_reason, streamed.content.at(-1).input], ["tool_use", { city: "Paris" }]);

const result = { type: "tool_result", tool_use_id: call.id, content: "It rains in Paris." };
const back = [...messages, { role: "assistant", content: whole.content }, { role: "user", content: [result] }];
const answer = anthropic.messages.stream({ ...wanted, messages: back });
let text = "";
answer.on("text", (piece) => (text += piece));
const message = await answer.finalMessage();
assert.equal(message.content.at(-1).text, text);
const { input_tokens } = await anthropic.messages.countTokens({ model, tools, messages: back });
const { usage } = message;
assert.equal(usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens, input_tokens);

const ids = [];
for await (const one of anthropic.models.list()) ids.push(one.id);
assert(ids.includes(model));
await assert.rejects(anthropic.messages.create({ ...wanted, model: "nobody", messages }), Anthropic.NotFoundError);
console.log("ok");
