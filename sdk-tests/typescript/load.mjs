// Sends messages to one session, each through the next of several servers, until its standard input ends.
//
//     load.mjs ADDRESSES KEY SESSION
//
// As sdk-tests/python/load.py does.

import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

import Anthropic, { APIError } from '@anthropic-ai/sdk';

const [addresses, apiKey, session] = process.argv.slice(2);
const steps = JSON.stringify([{ text: 'one', delay_ms: 50, chunks: 3 }]);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

let ended = false;
process.stdin.on('end', () => (ended = true)).resume();
const clients = new Map();
for (let number = 0; !ended; number += 1) {
  const servers = JSON.parse(readFileSync(addresses, 'utf8'));
  const baseURL = servers[number % servers.length];
  if (!clients.has(baseURL)) clients.set(baseURL, new Anthropic({ apiKey, baseURL, timeout: 10_000 }));
  const token = `${session}-typescript-${number}`;
  say({ sent: token });
  const message = { type: 'user.message', content: [{ type: 'text', text: `${token}\n\nSCRIPT: ${steps}` }] };
  try {
    const sent = await clients.get(baseURL).beta.sessions.events.send(
      session,
      { events: [message] },
      { headers: { 'Idempotency-Key': token } },
    );
    say({ acknowledged: sent.data.map((event) => event.id) });
  } catch (error) {
    // It may be there all the same; nobody promised it.
    if (!(error instanceof APIError)) throw error;
  }
  await setTimeout(50);
}
