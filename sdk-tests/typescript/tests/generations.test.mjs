// Every route that is served, through whichever version of the SDK runs this file: 1.11, the last 0.x, and
// 0.96, the first that knows sessions. Whatever a version has no method for goes through its `get` and `post`.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as kit from '../kit.mjs';
import { Anthropic, MODEL, VERSION } from '../kit.mjs';

const NEWER = Number(VERSION.split('.')[0]) >= 1;
const headers = { 'anthropic-beta': 'managed-agents-2026-04-01' };
let world;
let client;
let front;
let recorded;
before(async () => {
  ({ client } = world = await kit.world());
  front = await kit.recorder(world.server.url);
  recorded = world.server.client({ baseURL: front.url });
});
after(async () => {
  await front.close();
  await world.end();
});

const SERVED = `
POST /v1/agents
GET /v1/agents
GET /v1/agents/{}
POST /v1/agents/{}
POST /v1/agents/{}/archive
GET /v1/agents/{}/versions
POST /v1/environments
GET /v1/environments
GET /v1/environments/{}
POST /v1/environments/{}
DELETE /v1/environments/{}
POST /v1/environments/{}/archive
POST /v1/sessions
GET /v1/sessions
GET /v1/sessions/{}
POST /v1/sessions/{}
DELETE /v1/sessions/{}
POST /v1/sessions/{}/archive
GET /v1/sessions/{}/events
POST /v1/sessions/{}/events
GET /v1/sessions/{}/events/stream
GET /v1/sessions/{}/threads
GET /v1/sessions/{}/threads/{}
POST /v1/sessions/{}/threads/{}/archive
GET /v1/sessions/{}/threads/{}/events
GET /v1/sessions/{}/threads/{}/stream
POST /v1/vaults
GET /v1/vaults
GET /v1/vaults/{}
POST /v1/vaults/{}
DELETE /v1/vaults/{}
POST /v1/vaults/{}/archive
POST /v1/vaults/{}/credentials
GET /v1/vaults/{}/credentials
GET /v1/vaults/{}/credentials/{}
POST /v1/vaults/{}/credentials/{}
DELETE /v1/vaults/{}/credentials/{}
POST /v1/vaults/{}/credentials/{}/archive
GET /v1/models
GET /v1/models/{}`.trim().split('\n');

/** `GET /v1/agents/{}` of a request that was recorded. */
const template = ({ method, path }) =>
  `${method} ${path.split('?')[0].replaceAll(/\/(?:[a-z]+_[1-9A-Za-z]{22}|claude-[^/?]+)/g, '/{}')}`;
const ids = async (list) => (await kit.all(list)).map((one) => one.id);

async function agents({ beta }) {
  const agent = await beta.agents.create({ name: 'a', model: { id: MODEL, speed: 'standard' }, metadata: { k: 'v' } });
  assert.deepEqual((await beta.agents.retrieve(agent.id)).metadata, { k: 'v' });
  const newer = await beta.agents.update(agent.id, { version: agent.version, description: 'd', metadata: { k: null } });
  assert.deepEqual([newer.version, newer.description, newer.metadata], [agent.version + 1, 'd', {}]);
  assert.equal((await kit.all(beta.agents.versions.list(agent.id))).length, 2);
  assert.ok((await ids(beta.agents.list({ limit: 100 }))).includes(agent.id));
  assert.notEqual((await beta.agents.archive(agent.id)).archived_at, null);
}

async function environments({ beta }) {
  const one = await beta.environments.create({ name: kit.unique(), config: { type: 'cloud', networking: { type: 'unrestricted' } } });
  assert.equal((await beta.environments.retrieve(one.id)).config.networking.type, 'unrestricted');
  assert.equal((await beta.environments.update(one.id, { description: 'd' })).description, 'd');
  assert.ok((await ids(beta.environments.list({ limit: 100 }))).includes(one.id));
  assert.notEqual((await beta.environments.archive(one.id)).archived_at, null);
  assert.equal((await beta.environments.delete(one.id)).type, 'environment_deleted');
}

async function vaults({ beta }) {
  const vault = await beta.vaults.create({ display_name: 'v' });
  const at = { vault_id: vault.id };
  assert.equal((await beta.vaults.retrieve(vault.id)).display_name, 'v');
  assert.equal((await beta.vaults.update(vault.id, { display_name: 'w' })).display_name, 'w');
  assert.ok((await ids(beta.vaults.list({ limit: 100 }))).includes(vault.id));
  const auth = { type: 'static_bearer', token: 't-secret', mcp_server_url: 'https://mcp.example/x' };
  const made = await beta.vaults.credentials.create(vault.id, { auth });
  assert.equal((await beta.vaults.credentials.retrieve(made.id, at)).auth.type, 'static_bearer');
  assert.equal((await beta.vaults.credentials.update(made.id, { ...at, display_name: 'c' })).display_name, 'c');
  assert.deepEqual(await ids(beta.vaults.credentials.list(vault.id)), [made.id]);
  assert.notEqual((await beta.vaults.credentials.archive(made.id, at)).archived_at, null);
  assert.equal((await beta.vaults.credentials.delete(made.id, at)).type, 'vault_credential_deleted');
  assert.notEqual((await beta.vaults.archive(vault.id)).archived_at, null);
  assert.equal((await beta.vaults.delete(vault.id)).type, 'vault_deleted');
}

async function sessions(client) {
  const { beta } = client;
  const session = await kit.session(client, { title: 't' });
  await beta.sessions.events.send(session.id, { events: [kit.message(kit.script({ text: 'hello' }))] });
  await kit.until('an answer', async () => kit.said(await kit.log(client, session.id)).includes('hello'));
  await kit.until('the end of the turn', async () => (await beta.sessions.retrieve(session.id)).status === 'idle');
  assert.equal((await beta.sessions.update(session.id, { title: 'u' })).title, 'u');
  assert.ok((await ids(beta.sessions.list({ limit: 100 }))).includes(session.id));
  await threads(client, `/v1/sessions/${session.id}/threads`);
  assert.notEqual((await beta.sessions.archive(session.id)).archived_at, null);
  assert.equal((await beta.sessions.delete(session.id)).type, 'session_deleted');
}

async function threads(client, base) {
  const [thread] = (await client.get(base, { headers })).data;
  assert.equal((await client.get(`${base}/${thread.id}`, { headers })).parent_thread_id, null);
  const log = await client.get(`${base}/${thread.id}/events`, { headers });
  assert.ok(kit.kinds(log.data).includes('agent.message'));
  await assert.rejects(client.post(`${base}/${thread.id}/archive`, { headers }), Anthropic.BadRequestError);
}

test('every route is served', async () => {
  for (const part of [agents, environments, vaults, sessions]) await part(recorded);
  const [model] = await ids(recorded.models.list({ limit: 100 }));
  assert.equal((await recorded.models.retrieve(model)).id, model);
  const called = [...new Set(front.seen.map(template))].sort();
  assert.deepEqual(called, SERVED.filter((one) => !one.endsWith('/stream')).sort());
  for (const { headers } of front.seen) {
    assert.equal(headers['anthropic-version'], NEWER ? '2026-10-21' : '2023-06-01');
    assert.deepEqual(['authorization' in headers, 'x-api-key' in headers], [NEWER, !NEWER]);
  }
});

test('a stream delivers every event of the log', async () => {
  const session = await kit.session(client);
  const streamed = await kit.say(client, session.id, kit.bash('echo out'), { text: 'done' });
  const once = new Map(streamed.map((event) => [event.id, event.type]));
  const listed = await kit.log(client, session.id);
  assert.deepEqual(listed.map((event) => event.id), [...once.keys()]);
  assert.deepEqual(kit.kinds(listed), [...once.values()]);
  assert.ok(kit.kinds(streamed).includes('session.usage'));
});

test('the stream of a thread names its frames for the generation', async () => {
  const session = await kit.session(client);
  const [thread] = (await client.get(`/v1/sessions/${session.id}/threads`, { headers })).data;
  const path = `/v1/sessions/${session.id}/threads/${thread.id}/stream`;
  const version = NEWER ? '2026-10-21' : '2023-06-01';
  const answer = await fetch(world.server.url + path, { headers: { ...headers, 'x-api-key': kit.KEY, 'anthropic-version': version } });
  await client.beta.sessions.events.send(session.id, { events: [kit.message(kit.script({ text: 'hi' }))] });
  let text = '';
  for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (text.includes('"session.thread_status_idle"')) break;
  }
  const names = [...text.matchAll(/^event: (.*)$/gm)].map(([, name]) => name);
  assert.ok(names.includes('agent.message'));
  assert.equal(names.includes('session.thread_status_running'), NEWER);
});

test('a conflict has the type of the generation and is not repeated', async () => {
  const agent = await kit.agent(recorded);
  const before = front.seen.length;
  await assert.rejects(recorded.beta.agents.update(agent.id, { version: agent.version + 7, name: 'x' }), (error) => {
    assert.ok(error instanceof Anthropic.ConflictError);
    assert.equal(error.error.error.type, NEWER ? 'conflict_error' : 'invalid_request_error');
    return true;
  });
  assert.equal(front.seen.length, before + 1);
});

test('a field that no SDK sends is refused by its path', async () => {
  const wrong = client.beta.agents.create({ name: 'a', model: MODEL, colour: 'red' });
  await assert.rejects(wrong, (error) => error instanceof Anthropic.BadRequestError && /`colour`: unknown field/.test(error.message));
});
