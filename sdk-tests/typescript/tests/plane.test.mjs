// Confirmations, judgements, retries, updates and system messages over the SDK.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import * as kit from '../kit.mjs';
import { IDLE, RUNNING, bash, request } from '../kit.mjs';

let world;
let client;
before(async () => ({ client } = world = await kit.world()));
after(() => world.end());

const toolset = (type) => [{ type: 'agent_toolset_20260401', default_config: { permission_policy: { type } } }];
const confirm = (id, result, more = {}) => ({ type: 'user.tool_confirmation', tool_use_id: id, result, ...more });

/** The calls that an idle session waits for. */
function asked(events) {
  assert.equal(events.at(-1).stop_reason.type, 'requires_action');
  return events.at(-1).stop_reason.event_ids;
}

test('a call that must be confirmed waits, and runs or does not', async () => {
  const session = await kit.session(client, { agent: { tools: toolset('always_ask') } });
  const events = await kit.say(client, session.id, bash('echo one'), bash('echo two'), { text: 'done' });
  assert.deepEqual(kit.kinds(events), [...RUNNING, 'user.message', ...request('agent.tool_use'), ...IDLE]);
  const [call] = kit.of(events, 'agent.tool_use');
  assert.deepEqual([call.evaluated_permission, call.evaluation.type], ['ask', 'always_ask']);
  const allowed = await kit.turn(client, session.id, [confirm(asked(events)[0], 'allow')]);
  assert.deepEqual(kit.kinds(allowed).slice(0, 4), ['user.tool_confirmation', ...RUNNING, 'agent.tool_result']);
  const denied = await kit.turn(client, session.id, [confirm(asked(allowed)[0], 'deny', { deny_message: 'no' })]);
  assert.deepEqual(kit.results(denied), [[true, 'Permission to use bash has been rejected. Rejection message: no']]);
  assert.deepEqual(kit.said(denied), ['done']);
  const late = client.beta.sessions.events.send(session.id, { events: [confirm(call.id, 'deny')] });
  await assert.rejects(late, (error) => error instanceof Anthropic.BadRequestError && /already been resolved/.test(error.message));
});

test('a judge decides, and leaves to the client what it cannot', async () => {
  const session = await kit.session(client, { agent: { tools: toolset('auto') } });
  const allowed = await kit.say(client, session.id, { on: 'judge', text: 'allow' }, bash('echo ran'), { text: 'done' });
  assert.deepEqual(kit.of(allowed, 'agent.tool_use')[0].evaluation.evaluated_permission, { type: 'allow' });
  assert.deepEqual(kit.said(allowed), ['done']);
  const left = await kit.say(client, session.id, bash('echo ran'), { text: 'done' });
  assert.deepEqual(kit.of(left, 'agent.tool_use')[0].evaluation.evaluated_permission, {
    type: 'ask',
    reason_code: 'indeterminate',
  });
  assert.equal(asked(left).length, 1);
});

test('a failure that may pass is tried again in the same turn', async () => {
  const session = await kit.session(client);
  const events = await kit.say(client, session.id, { error: 529 }, { text: 'well again' });
  assert.equal(kit.of(events, 'session.error')[0].error.retry_status.type, 'retrying');
  assert.ok(kit.kinds(events).includes('session.status_rescheduled'));
  assert.deepEqual(kit.said(events), ['well again']);
});

test('tools and title change between turns, a budget only with a price', async () => {
  const session = await kit.session(client);
  const lookup = { type: 'custom', name: 'lookup', description: 'd', input_schema: { type: 'object' } };
  const changed = await client.beta.sessions.update(session.id, { agent: { tools: [lookup] }, title: 'new' });
  assert.deepEqual([changed.agent.tools[0].name, changed.title], ['lookup', 'new']);
  const [event] = await kit.log(client, session.id);
  assert.deepEqual([event.type, event.title, event.agent.tools[0].name], ['session.updated', 'new', 'lookup']);
  const budget = { type: 'limit', max_list_cost: { amount: '100', currency: 'USD' } };
  const unpriced = kit.session(client, { agent: { model: 'house-model' }, budget });
  await assert.rejects(unpriced, (error) => error instanceof Anthropic.BadRequestError && /model_not_budgetable/.test(error.message));
  await assert.rejects(client.beta.sessions.update(session.id, { budget }), /budget_create_only/);
});

test('a system message goes with the message before it', async () => {
  const session = await kit.session(client);
  const system = { type: 'system.message', content: [{ type: 'text', text: 'It is late.' }] };
  const events = await kit.turn(client, session.id, [kit.message(kit.script({ text: 'good night' })), system]);
  assert.deepEqual(kit.kinds(events).slice(0, 4), [...RUNNING, 'user.message', 'system.message']);
  await assert.rejects(client.beta.sessions.events.send(session.id, { events: [system] }), Anthropic.BadRequestError);
});
