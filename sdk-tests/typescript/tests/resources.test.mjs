// Agents, environments, vaults, models and sessions over the SDK: every route, and iterators over pages.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import * as kit from '../kit.mjs';

let world;
let client;
before(async () => ({ client } = world = await kit.world()));
after(() => world.end());

const ids = (items) => items.map((item) => item.id);

test('agents: create, get, update with version check, list over pages, versions, archive', async () => {
  const made = await kit.agent(client, { system: 'Be brief.', metadata: { team: 'a', gone: 'soon' } });
  assert.equal(made.version, 1);
  assert.deepEqual(await client.beta.agents.retrieve(made.id), made);
  const changed = await client.beta.agents.update(made.id, { version: 1, system: null, metadata: { gone: null } });
  assert.deepEqual([changed.version, changed.system, changed.metadata], [2, null, { team: 'a' }]);
  await assert.rejects(client.beta.agents.update(made.id, { version: 1, name: 'late' }), (error) => {
    assert.ok(error instanceof Anthropic.ConflictError);
    assert.equal(error.error.error.type, 'conflict_error');
    return true;
  });
  const versions = await kit.all(client.beta.agents.versions.list(made.id, { limit: 1 }));
  assert.deepEqual(versions.map((agent) => agent.version), [2, 1]);
  const more = [made.id];
  for (let n = 0; n < 4; n += 1) more.push((await kit.agent(client)).id);
  const query = { limit: 2, 'created_at[gte]': made.created_at };
  assert.deepEqual(ids(await kit.all(client.beta.agents.list(query))), more.toReversed());
  const archived = await client.beta.agents.archive(made.id);
  assert.ok(archived.archived_at);
  assert.deepEqual(ids(await kit.all(client.beta.agents.list(query))), more.slice(1).toReversed());
  await assert.rejects(client.beta.agents.update(made.id, { name: 'no' }), Anthropic.BadRequestError);
});

test('environments: create, get, update, list over pages, archive, delete', async () => {
  const made = await kit.environment(client, { metadata: { a: '1' } });
  assert.equal(made.config.networking.type, 'unrestricted');
  assert.deepEqual(await client.beta.environments.retrieve(made.id), made);
  const changed = await client.beta.environments.update(made.id, { description: 'new', metadata: { a: '' } });
  assert.deepEqual([changed.description, changed.metadata], ['new', {}]);
  const more = [made.id];
  for (let n = 0; n < 4; n += 1) more.push((await kit.environment(client)).id);
  const listed = ids(await kit.all(client.beta.environments.list({ limit: 2 })));
  assert.deepEqual(listed.slice(0, 5), more.toReversed());
  assert.ok((await client.beta.environments.archive(made.id)).archived_at);
  assert.ok(!ids(await kit.all(client.beta.environments.list())).includes(made.id));
  const deleted = await client.beta.environments.delete(made.id);
  assert.deepEqual({ ...deleted }, { id: made.id, type: 'environment_deleted' });
  await assert.rejects(client.beta.environments.retrieve(made.id), Anthropic.NotFoundError);
});

test('vaults and credentials: every route, and the secret never comes back', async () => {
  const secret = 's3cr3t-that-must-not-come-back';
  const vault = await client.beta.vaults.create({ display_name: 'One', metadata: { a: '1' } });
  assert.deepEqual(await client.beta.vaults.retrieve(vault.id), vault);
  const renamed = await client.beta.vaults.update(vault.id, { display_name: 'Two', metadata: { a: null } });
  assert.deepEqual([renamed.display_name, renamed.metadata], ['Two', {}]);
  const auth = (n) => ({ type: 'static_bearer', token: secret, mcp_server_url: `https://mcp${n}.example.com` });
  const made = [];
  for (let n = 0; n < 3; n += 1) made.push(await client.beta.vaults.credentials.create(vault.id, { auth: auth(n) }));
  await assert.rejects(client.beta.vaults.credentials.create(vault.id, { auth: auth(0) }), Anthropic.ConflictError);
  const listed = await kit.all(client.beta.vaults.credentials.list(vault.id, { limit: 1 }));
  assert.deepEqual(ids(listed), ids(made).toReversed());
  const [first, second] = made;
  const seen = [
    ...made,
    ...listed,
    await client.beta.vaults.credentials.retrieve(first.id, { vault_id: vault.id }),
    await client.beta.vaults.credentials.update(first.id, { vault_id: vault.id, display_name: 'x' }),
    await client.beta.vaults.credentials.archive(first.id, { vault_id: vault.id }),
  ];
  assert.ok(!JSON.stringify(seen).includes(secret));
  const gone = await client.beta.vaults.credentials.delete(second.id, { vault_id: vault.id });
  assert.equal(gone.type, 'vault_credential_deleted');
  const other = await client.beta.vaults.create({ display_name: 'Three' });
  assert.deepEqual(ids(await kit.all(client.beta.vaults.list({ limit: 1 }))).slice(0, 2), [other.id, vault.id]);
  assert.ok((await client.beta.vaults.archive(vault.id)).archived_at);
  assert.equal((await client.beta.vaults.delete(vault.id)).type, 'vault_deleted');
});

test('an OAuth credential is tried at its server, and its secrets are not shown', async () => {
  let good = 'Bearer access-0';
  const server = createServer((request, response) => {
    const sent = request.headers.authorization;
    response.writeHead(sent === good ? 200 : 403, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ sent }));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  try {
    const url = `http://127.0.0.1:${server.address().port}/mcp`;
    const vault = await client.beta.vaults.create({ display_name: 'OAuth' });
    const auth = { type: 'mcp_oauth', access_token: 'access-0', mcp_server_url: url };
    const made = await client.beta.vaults.credentials.create(vault.id, { auth });
    const tried = () => client.beta.vaults.credentials.mcpOAuthValidate(made.id, { vault_id: vault.id });
    const found = await tried();
    assert.deepEqual([found.type, found.status, found.mcp_probe], ['vault_credential_validation', 'valid', null]);
    good = 'another';
    const refused = await tried();
    assert.deepEqual([refused.status, refused.mcp_probe.http_response.status_code], ['invalid', 403]);
    assert.ok(!JSON.stringify(refused).includes('access-0'));
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test('models: list over pages, get', async () => {
  const listed = ids(await kit.all(client.beta.models.list({ limit: 3 })));
  assert.ok(listed.length > 3 && listed.includes(kit.MODEL) && new Set(listed).size === listed.length);
  assert.equal((await client.beta.models.retrieve(kit.MODEL)).id, kit.MODEL);
});

test('sessions: create, get, update, list both ways over pages, archive, delete', async () => {
  const agent = await kit.agent(client);
  const environment = await kit.environment(client);
  const made = [];
  for (let n = 0; n < 5; n += 1) {
    made.push(await client.beta.sessions.create({ agent: agent.id, environment_id: environment.id, title: `${n}` }));
  }
  const query = { agent_id: agent.id, limit: 2 };
  assert.deepEqual(ids(await kit.all(client.beta.sessions.list(query))), ids(made).toReversed());
  assert.deepEqual(ids(await kit.all(client.beta.sessions.list({ ...query, order: 'asc' }))), ids(made));
  const first = await client.beta.sessions.list(query);
  const second = await first.getNextPage();
  const back = await client.beta.sessions.list({ ...query, page: second.prev_page });
  assert.deepEqual([first.prev_page, ids(back.data)], [null, ids(first.data)]);
  const changed = await client.beta.sessions.update(made[0].id, { title: 'new', metadata: { a: '1' } });
  assert.deepEqual([changed.title, changed.metadata], ['new', { a: '1' }]);
  assert.equal((await client.beta.sessions.retrieve(made[0].id)).title, 'new');
  assert.equal((await client.beta.sessions.archive(made[0].id)).status, 'terminated');
  const terminated = { ...query, include_archived: true, statuses: ['terminated'] };
  assert.deepEqual(ids(await kit.all(client.beta.sessions.list(terminated))), [made[0].id]);
  assert.equal((await client.beta.sessions.delete(made[1].id)).type, 'session_deleted');
  await assert.rejects(client.beta.sessions.retrieve(made[1].id), Anthropic.NotFoundError);
});

test('refusals are the classes of the SDK, with request ids, and what cannot change is asked for once', async () => {
  const wrong = world.server.client({ apiKey: 'lh_wrong_key_0123456789' });
  await assert.rejects(kit.all(wrong.beta.agents.list()), Anthropic.AuthenticationError);
  await assert.rejects(kit.agent(client, { surprise: 1 }), (error) => {
    assert.ok(error instanceof Anthropic.BadRequestError && error.message.includes('surprise'));
    assert.match(error.requestID, /^req_/);
    assert.equal(error.requestID, error.error.request_id);
    return true;
  });
  const record = await kit.recorder(world.server.url);
  try {
    const watched = world.server.client({ baseURL: record.url });
    const agent = await kit.agent(watched);
    const late = watched.beta.agents.update(agent.id, { version: 7, name: 'x' });
    await assert.rejects(late, Anthropic.ConflictError);
    await assert.rejects(kit.all(watched.beta.files.list()), Anthropic.NotImplementedError);
    assert.equal(record.seen.length, 3);
  } finally {
    await record.close();
  }
  const session = await kit.session(client);
  const large = client.beta.sessions.events.send(session.id, { events: [kit.message('x'.repeat(33 << 20))] });
  await assert.rejects(large, Anthropic.ContentTooLargeError);
});
