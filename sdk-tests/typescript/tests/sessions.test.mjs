// Turns over the SDK: streams, deltas, tools, custom tools, interrupts, an LLM vault, a killed server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { accumulateManagedAgentsEvent } from '@anthropic-ai/sdk/lib/sessions/accumulate';
import * as kit from '../kit.mjs';
import { IDLE, RUNNING, bash, request } from '../kit.mjs';

let world;
let client;
before(async () => ({ client } = world = await kit.world()));
after(() => world.end());

test('a plain turn has the recorded order, on the stream, in the list and on the thread', async () => {
  const session = await kit.session(client);
  const events = await kit.say(client, session.id, { text: 'hello' });
  assert.deepEqual(kit.kinds(events), [...RUNNING, 'user.message', ...request('agent.message'), ...IDLE]);
  assert.deepEqual(await kit.log(client, session.id), events);
  const [thread] = await kit.all(client.beta.sessions.threads.list(session.id));
  assert.equal((await client.beta.sessions.threads.retrieve(thread.id, { session_id: session.id })).status, 'idle');
  const listed = client.beta.sessions.threads.events.list(thread.id, { session_id: session.id, limit: 3 });
  assert.deepEqual(await kit.all(listed), events);
  const stream = await client.beta.sessions.threads.events.stream(thread.id, { session_id: session.id });
  await client.beta.sessions.events.send(session.id, { events: [kit.message('again')] });
  assert.deepEqual(kit.said(await kit.collect(stream)).length, 1);
});

test('initial events start a session that is running', async () => {
  const initial = [kit.message(kit.script({ text: 'started' }))];
  const session = await kit.session(client, { initial_events: initial });
  assert.equal(session.status, 'running');
  const idle = async () => (await client.beta.sessions.retrieve(session.id)).status === 'idle';
  await kit.until('the session to be idle', idle);
  assert.deepEqual(kit.said(await kit.log(client, session.id)), ['started']);
});

test('events are listed by type, in both orders, over pages', async () => {
  const session = await kit.session(client);
  for (const word of ['one', 'two', 'three']) await kit.say(client, session.id, { text: word });
  const list = (query) => kit.all(client.beta.sessions.events.list(session.id, query));
  const every = await list({ limit: 4 });
  assert.equal(every.length, 27);
  assert.deepEqual(await list({ limit: 4, order: 'desc' }), every.toReversed());
  assert.deepEqual(kit.said(await list({ types: ['agent.message'], limit: 2 })), ['one', 'two', 'three']);
});

test('deltas add up to the message', async () => {
  const session = await kit.session(client);
  const words = 'one two three four five six';
  const script = [kit.message(kit.script({ text: words, chunks: 6 }))];
  const events = await kit.turn(client, session.id, script, { event_deltas: ['agent.message'] });
  let accumulated;
  for (const event of events) {
    if (event.type === 'agent.message') break;
    accumulated = accumulateManagedAgentsEvent(accumulated, event);
  }
  const [message] = kit.of(events, 'agent.message');
  assert.ok(kit.of(events, 'event_delta').length > 1);
  assert.deepEqual([accumulated.id, accumulated.content], [message.id, message.content]);
  assert.equal(kit.text(message), words);
});

test('a coding task: write, run, fail, edit, run again, search, parallel calls', async () => {
  const session = await kit.session(client);
  const path = '/workspace/sum.py';
  const events = await kit.say(
    client,
    session.id,
    { tool: 'write', input: { file_path: path, content: 'print(sum(["1", "2"]))\n' } },
    bash('python3 sum.py'),
    { tool: 'edit', input: { file_path: path, old_string: '["1", "2"]', new_string: '[1, 2]' } },
    { tools: [{ name: 'bash', input: { command: 'python3 sum.py' } }, { name: 'read', input: { file_path: path } }] },
    { tool: 'grep', input: { pattern: 'sum\\(' } },
    { text: 'It prints 3.' },
  );
  const [wrote, failed, edited, ran, read, found] = kit.results(events);
  assert.deepEqual([wrote[0], edited[0]], [false, false]);
  assert.ok(failed[0] && failed[1].includes('TypeError'));
  assert.deepEqual(ran, [false, '3']);
  assert.ok(read[1].includes('print(sum([1, 2]))'));
  assert.deepEqual(found, [false, path]);
  assert.deepEqual(kit.said(events), ['It prints 3.']);
});

test('a custom tool stops the turn until its answer', async () => {
  const tool = { type: 'custom', name: 'weather', description: 'The weather.', input_schema: { type: 'object' } };
  const session = await kit.session(client, { agent: { tools: [tool] } });
  const asked = await kit.say(client, session.id, { tool: 'weather', input: { city: 'Oslo' } }, { echo_results: true });
  const [call] = kit.of(asked, 'agent.custom_tool_use');
  assert.deepEqual(asked.at(-1).stop_reason, { type: 'requires_action', event_ids: [call.id] });
  const blocked = client.beta.sessions.events.send(session.id, { events: [kit.message('well?')] });
  await assert.rejects(blocked, Anthropic.BadRequestError);
  const content = [{ type: 'text', text: 'rain' }];
  const answer = { type: 'user.custom_tool_result', custom_tool_use_id: call.id, content };
  const answered = await kit.turn(client, session.id, [answer]);
  const expected = ['user.custom_tool_result', ...RUNNING, ...request('agent.message'), ...IDLE];
  assert.deepEqual(kit.kinds(answered), expected);
  assert.ok(kit.said(answered)[0].includes('rain'));
});

test('a message sent mid-turn comes after the tool result; an interrupt ends the turn', async () => {
  const session = await kit.session(client);
  const gate = kit.unique('gate');
  const send = (...events) => client.beta.sessions.events.send(session.id, { events });
  let stream = await client.beta.sessions.events.stream(session.id);
  await send(kit.message(kit.script(bash('echo one', { wait: gate }), { text: 'both done' })));
  await world.model.someoneWaitsAt(gate);
  await send(kit.message('and two'));
  await world.model.release(gate);
  await kit.collect(stream);
  const kinds = kit.kinds(await kit.log(client, session.id));
  const middle = ['agent.tool_result', 'user.message', ...request('agent.message')];
  assert.deepEqual(kinds, [...RUNNING, 'user.message', ...request('agent.tool_use'), ...middle, ...IDLE]);

  const other = kit.unique('gate');
  stream = await client.beta.sessions.events.stream(session.id);
  await send(kit.message(kit.script({ wait: other, text: 'late' })));
  await world.model.someoneWaitsAt(other);
  await send({ type: 'user.interrupt' });
  const stopped = await kit.collect(stream);
  await world.model.release(other);
  assert.deepEqual([stopped.at(-1).stop_reason.type, kit.said(stopped)], ['end_turn', []]);
});

test('an LLM vault is asked with its own key', async () => {
  const record = await kit.recorder(world.model.url);
  try {
    const metadata = {
      'longhand.role': 'llm',
      'longhand.harness': 'native',
      'longhand.llm_api': 'openai_chat',
      'longhand.llm_base_url': `${record.url}/v1`,
    };
    const vault = await client.beta.vaults.create({ display_name: 'llm', metadata });
    const auth = { type: 'static_bearer', token: 'sk-vault-0123456789' };
    await client.beta.vaults.credentials.create(vault.id, { auth });
    const session = await kit.session(client, { vault_ids: [vault.id] });
    assert.deepEqual(kit.said(await kit.say(client, session.id, { text: 'over chat' })), ['over chat']);
    const [{ path, headers }] = record.seen;
    assert.deepEqual([path, headers.authorization], ['/v1/chat/completions', 'Bearer sk-vault-0123456789']);
  } finally {
    await record.close();
  }
});

test('a model that fails ends the turn visibly and the next message starts a new one', async () => {
  const session = await kit.session(client);
  const events = await kit.say(client, session.id, { error: 400, times: 0 });
  assert.equal(kit.of(events, 'session.error')[0].error.retry_status.type, 'exhausted');
  assert.equal(events.at(-1).stop_reason.type, 'retries_exhausted');
  assert.deepEqual(kit.said(await kit.say(client, session.id, { text: 'well' })), ['well']);
});

test('deleting a session ends its streams', async () => {
  const session = await kit.session(client);
  const stream = await client.beta.sessions.events.stream(session.id);
  await client.beta.sessions.delete(session.id);
  assert.deepEqual(kit.kinds(await kit.all(stream)), ['session.deleted']);
});

test('after kill -9 the session goes on with its history and its files', async () => {
  const session = await kit.session(client);
  const before = await kit.say(client, session.id, bash('echo precious > kept.txt'), { text: 'written' });
  await world.server.kill();
  world.server = await world.server.restarted();
  client = world.client = world.server.client();
  assert.deepEqual(await kit.log(client, session.id), before);
  const events = await kit.say(client, session.id, bash('cat kept.txt'), { text: 'read' });
  assert.deepEqual(kit.results(events), [[false, 'precious']]);
});
