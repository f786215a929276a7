// Outcomes over the SDK: define, work, grade, revise, interrupt.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import * as kit from '../kit.mjs';
import { IDLE, RUNNING, request } from '../kit.mjs';

let world;
let client;
before(async () => ({ client } = world = await kit.world()));
after(() => world.end());

const END = 'span.outcome_evaluation_end';
const verdict = (word, why) => ({ on: 'grade', text: JSON.stringify({ verdict: word, explanation: why }) });

/** An outcome whose work and whose grader the scripted model plays. */
const outcome = (steps, more = {}) => ({
  type: 'user.define_outcome',
  description: kit.script(...steps),
  rubric: { type: 'text', content: 'It has a title.' },
  ...more,
});

test('an outcome is worked on, graded, revised and satisfied', async () => {
  const session = await kit.session(client);
  const steps = [{ text: 'one' }, { text: 'two' }, verdict('needs_revision', 'no title'), verdict('satisfied', 'a title')];
  const events = await kit.turn(client, session.id, [outcome(steps)]);
  const round = [...request('agent.message'), 'span.outcome_evaluation_start', END];
  assert.deepEqual(kit.kinds(events), [...RUNNING, 'user.define_outcome', ...round, ...round, ...IDLE]);
  const ends = kit.of(events, END).map(({ iteration, result, explanation }) => [iteration, result, explanation]);
  assert.deepEqual(ends, [[0, 'needs_revision', 'no title'], [1, 'satisfied', 'a title']]);
  const { outcome_evaluations: [found] } = await client.beta.sessions.retrieve(session.id);
  assert.deepEqual([found.type, found.result, found.iteration, found.explanation], ['outcome_evaluation', 'satisfied', 1, 'a title']);
  assert.ok(found.completed_at);
});

test('the last iteration is followed by a last word', async () => {
  const session = await kit.session(client);
  const steps = [{ text: 'one' }, { text: 'no title' }, verdict('needs_revision', 'none')];
  const events = await kit.turn(client, session.id, [outcome(steps, { max_iterations: 1 })]);
  assert.deepEqual(kit.said(events), ['one', 'no title']);
  assert.deepEqual(kit.of(events, END).map((end) => end.result), ['max_iterations_reached']);
});

test('a bad outcome is refused naming the field', async () => {
  const session = await kit.session(client);
  for (const max_iterations of [0, 21]) {
    const sent = client.beta.sessions.events.send(session.id, { events: [outcome([{ text: 'x' }], { max_iterations })] });
    await assert.rejects(sent, (error) => error instanceof Anthropic.BadRequestError && /max_iterations/.test(error.message));
  }
});
