/**
 * The npm packages `openai` and `ai` against a running worker: what they ask for arrives, and what fails becomes their errors.
 *
 * `HUATUO_WORKER_URL=URL HUATUO_WORKER_KEY=KEY HUATUO_CLIENT_MODULES=FOLDER node --test openai.test.mjs`, where `npm install
 * openai ai zod` was run in the folder; `run.py` starts workers for it. HUATUO_WORKER_HASTY_URL is what it is for
 * `test_openai.py`.
 */

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';

const { HUATUO_WORKER_URL: URL, HUATUO_WORKER_KEY: KEY, HUATUO_WORKER_HASTY_URL: HASTY, HUATUO_CLIENT_MODULES } = process.env;
const require = createRequire(path.resolve(HUATUO_CLIENT_MODULES, 'package.json'));
const OpenAI = require('openai');
const { DefaultChatTransport, readUIMessageStream } = require('ai');

const messages = [
  { role: 'system', content: '回答简短。' },
  { role: 'user', content: '感冒了怎么办？' },
];
const prompt = '糖尿病的症状有';
const TOKENS = 24;
/** More than a deadline of 300 ms leaves time for. */
const LONG = 1900;
const tooLate = { skip: !HASTY && 'HUATUO_WORKER_HASTY_URL is not set' };

const connect = (options) => new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0, ...options });
const client = connect();
const hasty = connect({ baseURL: `${HASTY}/v1` });
const [{ id: model }] = (await client.models.list()).data;
// Texts of a model may end early; with ignore_eos they don't, so that there is something to count, cut and compare.
const asked = { model, max_tokens: TOKENS, temperature: 0, ignore_eos: true };
const chat = (options, by = client) => by.chat.completions.create({ ...asked, messages, ...options });
const complete = (options, by = client) => by.completions.create({ ...asked, prompt, ...options });
const embed = (options) => client.embeddings.create({ model: 'encoder', ...options });

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

function refused(ask, kind, status, code, param = null) {
  return assert.rejects(ask, (error) => {
    assert.ok(error instanceof kind, String(error));
    assert.deepEqual([error.status, error.code, error.param], [status, code, param]);
    assert.match(error.requestID, /^req-/);
    return true;
  });
}

test('a listed model can be retrieved by its name, and no other', async () => {
  for await (const listed of client.models.list()) {
    assert.equal((await client.models.retrieve(listed.id)).id, listed.id);
  }
  await refused(client.models.retrieve('gpt-0'), OpenAI.NotFoundError, 404, 'model_not_found');
  await refused(chat({ model: 'gpt-0' }), OpenAI.NotFoundError, 404, 'model_not_found');
});

test('a wrong key is an authentication error', () =>
  refused(connect({ apiKey: 'not-the-key-0123' }).models.list(), OpenAI.AuthenticationError, 401, 'invalid_api_key'));

test('a stream says what the whole answer says and then its usage', async () => {
  const whole = await chat();
  const [choice] = whole.choices;
  assert.deepEqual([choice.message.role, choice.finish_reason, whole.usage.completion_tokens], ['assistant', 'length', TOKENS]);
  const chunks = await all(await chat({ stream: true, stream_options: { include_usage: true } }));
  const last = chunks.pop();
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''), choice.message.content);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'length');
  assert.ok(chunks.every((chunk) => chunk.id === last.id && !chunk.usage));
  assert.deepEqual([last.choices, last.usage.completion_tokens], [[], TOKENS]);
});

test("the package's own accumulation gives the whole answer", async () => {
  const whole = await chat();
  const stream = client.chat.completions.stream({ ...asked, messages });
  const deltas = [];
  stream.on('content', (delta) => deltas.push(delta));
  const { choices } = await stream.finalChatCompletion();
  assert.equal(choices[0].message.content, whole.choices[0].message.content);
  assert.equal(deltas.join(''), choices[0].message.content);
});

test('two answers are told apart by their index', async () => {
  const { choices, usage } = await chat({ n: 2, temperature: 1, seed: 3 });
  assert.deepEqual(choices.map(({ index }) => index), [0, 1]);
  assert.notEqual(choices[0].message.content, choices[1].message.content);
  assert.equal(usage.completion_tokens, 2 * TOKENS);
  const ends = (await all(await chat({ n: 2, stream: true }))).flatMap((chunk) => chunk.choices).filter((c) => c.finish_reason);
  assert.deepEqual(ends.map(({ index }) => index).sort(), [0, 1]);
});

test('an answer ends before a stop text', async () => {
  const whole = (await chat()).choices[0].message.content;
  const middle = whole.slice(whole.length / 2).slice(0, 2);
  const [choice] = (await chat({ stop: ['never written', middle] })).choices;
  assert.deepEqual([choice.message.content, choice.finish_reason], [whole.slice(0, whole.indexOf(middle)), 'stop']);
});

test('a seed makes an answer repeatable', async () => {
  const content = async (seed) => (await chat({ temperature: 1, seed })).choices[0].message.content;
  assert.equal(await content(7), await content(7));
  assert.notEqual(await content(7), await content(8));
});

test('continuations come whole and in a stream', async () => {
  const { choices, usage } = await complete();
  assert.deepEqual([choices[0].finish_reason, usage.completion_tokens], ['length', TOKENS]);
  const chunks = await all(await complete({ stream: true, stream_options: { include_usage: true } }));
  assert.equal(chunks.pop().usage.completion_tokens, TOKENS);
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), choices[0].text);
});

test('base64, which the package asks for itself, equals numbers', async () => {
  const input = ['高血压有哪些症状？', '怎么预防感冒？'];
  const [packed, numbers] = await Promise.all([embed({ input }), embed({ input, encoding_format: 'float' })]);
  assert.deepEqual(packed.data.map(({ index }) => index), [0, 1]);
  for (const [at, { embedding }] of packed.data.entries()) {
    assert.equal(embedding.length, numbers.data[at].embedding.length);
    assert.ok(embedding.every((number, i) => Math.abs(number - numbers.data[at].embedding[i]) < 1e-6));
  }
  await refused(embed({ input: [] }), OpenAI.BadRequestError, 400, 'invalid_value', 'input');
});

test('what is not done, or is out of range, is a bad request that names the field', async () => {
  const image = { type: 'image_url', image_url: { url: 'https://example.com/x.png' } };
  const tool = { type: 'function', function: { name: 'search', parameters: { type: 'object', properties: {} } } };
  const bad = (options, ...expected) => refused(chat(options), OpenAI.BadRequestError, 400, ...expected);
  await bad({ tools: [tool] }, 'unsupported_parameter', 'tools');
  await bad({ messages: [{ role: 'user', content: [image] }] }, 'unsupported_parameter', 'messages');
  await bad({ n: 1000 }, 'invalid_value', 'n');
  await bad({ n: 1000, stream: true }, 'invalid_value', 'n');
  const long = [{ role: 'user', content: '头痛，发热，咳嗽。'.repeat(2000) }];
  await bad({ messages: long }, 'context_length_exceeded', 'messages');
});

test('a client that stops waiting leaves the worker answering', async () => {
  await assert.rejects(client.completions.create({ model, prompt, n: 4, ignore_eos: true }, { timeout: 20 }), OpenAI.APIConnectionTimeoutError);
  for await (const chunk of await complete({ stream: true })) {
    assert.ok(chunk);
    break;
  }
  assert.equal((await complete()).usage.completion_tokens, TOKENS);
});

test('a stream that is cut raises after the text that came', tooLate, async () => {
  for (const ask of [chat, complete]) {
    const chunks = [];
    await assert.rejects(
      async () => {
        for await (const chunk of await ask({ n: 2, max_tokens: LONG, stream: true }, hasty)) chunks.push(chunk);
      },
      (error) => error instanceof OpenAI.APIError && error.code === 'deadline_exceeded',
    );
    assert.ok(chunks.length > 0);
  }
});

test('a late answer is a server error, and a full queue a rate limit error', tooLate, async () => {
  await refused(complete({ n: 2, max_tokens: LONG }, hasty), OpenAI.InternalServerError, 504, 'deadline_exceeded');
  // Three texts have no place in a queue of two, now or later.
  await refused(complete({ n: 3 }, hasty), OpenAI.RateLimitError, 429, 'queue_full');
});

const words = (text) => ({ type: 'text', text });
const texts = ({ parts }) => parts.filter(({ type }) => type === 'text').map(({ text }) => text).join('');

/** The assistant's message as a page would show it at the end; whatever the package can't read throws. */
async function consult(conversation, key = KEY) {
  const transport = new DefaultChatTransport({ api: `${URL}/v1/consult/ui`, headers: { Authorization: `Bearer ${key}` } });
  const stream = await transport.sendMessages({ chatId: 'chat', messages: conversation, trigger: 'submit-message' });
  const onError = (error) => {
    throw error;
  };
  let shown;
  for await (shown of readUIMessageStream({ stream, onError, terminateOnError: true }));
  return shown;
}

test('a consultation arrives as text, sources and data of a UI message', async () => {
  const message = await consult([{ id: '1', role: 'user', parts: [words('胸口突然剧烈疼痛，出冷汗怎么办？')] }]);
  assert.equal(message.role, 'assistant');
  assert.match(message.id, /^msg-/);
  const of = (type) => message.parts.filter((part) => part.type === type);
  const [text, ...more] = of('text');
  assert.ok(text.state === 'done' && text.text.length > 0 && more.length === 0);
  const sources = message.parts.filter(({ type }) => type === 'source-url' || type === 'source-document');
  assert.deepEqual(sources.map(({ sourceId }) => sourceId), sources.map((_, at) => String(at + 1)));
  assert.ok(sources.length > 0 && sources.every(({ title }) => title));
  const [{ data: flags }] = of('data-red-flags');
  assert.ok(flags.length > 0 && flags.every(({ id, advice, advice_en }) => id && advice && advice_en));
  const sentences = of('data-sentence').map(({ data }) => data);
  assert.equal(sentences.map(({ text }) => text).join(''), text.text);
  const cited = sentences.flatMap(({ citations }) => citations);
  assert.ok(cited.length > 0 && cited.every((n) => sources.some(({ sourceId }) => sourceId === String(n))));
  assert.ok(of('data-notice').every(({ data }) => data.text));
});

test('a conversation goes on with the message that was read', async () => {
  const user = (id, text) => ({ id, role: 'user', parts: [words(text)] });
  const first = user('1', '糖尿病有哪些症状？');
  const answer = await consult([first]);
  const next = await consult([first, answer, user('2', '它一般怎么治疗呢？')]);
  const title = next.parts.find(({ type }) => type.startsWith('source-')).title;
  // The question is completed from the conversation: alone it names no disease.
  assert.match(title, /糖尿病/);
  assert.ok(texts(next).length > 0);
});

test('a consultation that is refused rejects with the reason', async () => {
  const question = [{ id: '1', role: 'user', parts: [words('感冒了怎么办？')] }];
  await assert.rejects(consult(question, 'not-the-key-0123'), /invalid_api_key/);
  await assert.rejects(consult([]), /invalid_value/);
});
