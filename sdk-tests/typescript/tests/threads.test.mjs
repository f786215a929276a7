// Teams over the SDK: a coordinator and its thread, a question of a thread, the advisor.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accumulateManagedAgentsEvent } from '@anthropic-ai/sdk/lib/sessions/accumulate';
import * as kit from '../kit.mjs';
import { request } from '../kit.mjs';

let world;
let client;
before(async () => ({ client } = world = await kit.world()));
after(() => world.end());

const RECEIVED = 'agent.thread_message_received';
const SENT = 'agent.thread_message_sent';
const ASK = { type: 'custom', name: 'ask', description: 'asks', input_schema: { type: 'object' } };

/** A session whose agent leads a coder and may ask an advisor. */
async function team() {
  const coder = await kit.agent(client, { name: 'coder', tools: [ASK] });
  const agents = [coder.id, { type: 'advisor', model: coder.model.id }];
  return kit.session(client, { agent: { multiagent: { type: 'coordinator', agents } } });
}

const sendTo = (agent, ...steps) => ({ name: 'send_to_agent', input: { agent, message: kit.script(...steps) } });
const say = (session, ...steps) => kit.say(client, session.id, ...steps);

const threads = (session) => kit.all(client.beta.sessions.threads.list(session.id));
test('a coordinator gives work and hears the answer', async () => {
  const session = await team();
  const events = await say(session, { tools: [sendTo('coder', { text: 'forty-two' })] }, { text: 'I wait' }, { text: 'it is forty-two' });
  assert.equal(kit.said(events).at(-1), 'it is forty-two');
  const [primary, child] = await threads(session);
  assert.deepEqual([primary.parent_thread_id, child.parent_thread_id], [null, primary.id]);
  const [heard] = kit.of(events, RECEIVED);
  assert.deepEqual([heard.from_session_thread_id, heard.from_agent_name], [child.id, 'coder']);
  const own = await kit.all(client.beta.sessions.threads.events.list(child.id, { session_id: session.id }));
  const idle = 'session.thread_status_idle';
  assert.deepEqual(kit.kinds(own), ['session.thread_status_running', RECEIVED, ...request('agent.message'), SENT, idle]);
  assert.deepEqual([child.status, child.agent.name], ['idle', 'coder']);
});

test('a question of a thread is answered by its call', async () => {
  const session = await team();
  const steps = [{ tools: [sendTo('coder', { tools: [{ name: 'ask' }] }, { text: 'thanks' })] }, { text: 'I wait' }, { text: 'done' }];
  const asked = await say(session, ...steps);
  const [use] = kit.of(asked, 'agent.custom_tool_use');
  assert.deepEqual(asked.at(-1).stop_reason, { type: 'requires_action', event_ids: [use.id] });
  const answer = { type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [] };
  const events = await kit.turn(client, session.id, [answer]);
  assert.equal(kit.of(events, 'user.custom_tool_result')[0].session_thread_id, use.session_thread_id);
  assert.equal(kit.said(events).at(-1), 'done');
});

test('an advisor answers in a thread of its own', async () => {
  const session = await team();
  const ask = { name: 'ask_advisor', input: { question: kit.script({ text: 'mind the gap' }) } };
  const events = await say(session, { tools: [ask] }, { text: 'I do' });
  const [advice] = kit.of(events, RECEIVED);
  assert.deepEqual([advice.from_agent_name, advice.content[0].text], ['anthropic.advisor', 'mind the gap']);
  const [, advisor] = await threads(session);
  assert.deepEqual([advisor.agent.type, advisor.status], ['advisor', 'terminated']);
});

/** Every message of a stream as the SDK's helper accumulates it, each from its own previews, in order. */
function accumulated(events) {
  const previews = new Map();
  const whole = [];
  for (const event of events) {
    if (event.type === 'event_start' && event.event.type === 'agent.message') {
      previews.set(event.event.id, accumulateManagedAgentsEvent(undefined, event));
    } else if (event.type === 'event_delta') {
      previews.set(event.event_id, accumulateManagedAgentsEvent(previews.get(event.event_id), event));
    } else if (event.type === 'agent.message') {
      const preview = previews.get(event.id);
      previews.delete(event.id);
      assert.deepEqual(preview.content, event.content);
      whole.push(accumulateManagedAgentsEvent(preview, event));
    } else {
      const [kept] = previews.values();
      assert.equal(accumulateManagedAgentsEvent(kept, event), kept);
    }
  }
  assert.equal(previews.size, 0, 'a preview without its message');
  return whole;
}

test('the accumulating helper folds a coordinator, an advisor and an outcome', async () => {
  const session = await team();
  const ask = { name: 'ask_advisor', input: { question: kit.script({ text: 'mind the gap' }) } };
  const give = sendTo('coder', { text: 'forty two it is', chunks: 4 });
  const verdict = { on: 'grade', text: JSON.stringify({ verdict: 'satisfied', explanation: 'it is short' }) };
  const heard = { text: 'heard all of it', chunks: 4 };
  const description = kit.script({ tools: [ask] }, { tools: [give] }, { text: 'I wait', chunks: 2 }, heard, verdict);
  const rubric = { type: 'text', content: 'It is short.' };
  const outcome = { type: 'user.define_outcome', description, rubric };
  const events = await kit.turn(client, session.id, [outcome], { event_deltas: ['agent.message'] });
  const whole = accumulated(events);
  assert.deepEqual(whole.map((message) => message.content[0].text), kit.said(events));
  assert.equal(kit.said(events).at(-1), 'heard all of it');
  assert.ok(kit.kinds(events).includes('span.outcome_evaluation_end'));
});
