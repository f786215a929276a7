// Starts the real server and the scripted model, and the words that every test uses. Nothing here waits
// for a fixed time: it waits for a condition, with a deadline.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** The SDK under test: the newest, or an older one by the name that `package.json` gives it. */
const sdk = process.env.LONGHAND_TYPESCRIPT_SDK ?? '@anthropic-ai/sdk';
export const { default: Anthropic } = await import(sdk);
export const { VERSION } = await import(`${sdk}/version`);

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const KEY = 'lh_sdk_tests_key_0001';
export const MODEL = 'claude-sonnet-5-5';
const BINARY = process.env.LONGHAND_BIN ?? join(ROOT, 'target/debug/longhand');
const SCRIPTED = process.env.SCRIPTED_BIN ?? join(ROOT, 'target/debug/scripted');
const DEADLINE = 60_000;
const FOREIGN = /^(anthropic_|openai_|longhand_|https?_proxy|all_proxy|no_proxy)/i;

/** The environment of this process without what would change the meaning of a test. */
export function cleanEnvironment(more = {}) {
  const kept = Object.entries(process.env).filter(([name]) => !FOREIGN.test(name) || name === 'LONGHAND_HAND_BIN');
  return { ...Object.fromEntries(kept), ...more };
}

/** Waits until `condition` gives something true, and gives it. */
export async function until(what, condition) {
  for (const end = Date.now() + DEADLINE; ; ) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${DEADLINE} ms in vain for ${what}`);
    await pause(20);
  }
}

/** A child that says one JSON line when it is ready. */
class Process {
  static async start(kind, command, args, log, environment) {
    const child = spawn(command, args, { env: cleanEnvironment(environment), stdio: ['ignore', 'pipe', 'pipe'] });
    child.stderr.on('data', (piece) => appendFileSync(log, piece));
    const ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
    const tail = () => (existsSync(log) ? readFileSync(log, 'utf8').slice(-4000) : '');
    const line = new Promise((resolve) => createInterface({ input: child.stdout }).once('line', resolve));
    const late = pause(DEADLINE, undefined, { ref: false });
    const said = await Promise.race([line, ended.then(() => undefined), late]);
    if (typeof said !== 'string') {
      child.kill('SIGKILL');
      throw new Error(`${command} did not start; its log ends:\n${tail()}`);
    }
    return new kind(child, ended, JSON.parse(said));
  }

  constructor(child, ended, ready) {
    Object.assign(this, { child, ended, ready });
  }

  /** SIGKILL: the end that nobody can prepare for. */
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** The scripted model server. */
export class Model extends Process {
  static start(home) {
    return Process.start(Model, SCRIPTED, ['--listen', '127.0.0.1:0'], join(home, 'scripted.log'), {});
  }

  get url() {
    return this.ready.base_url;
  }

  async stats() {
    return (await fetch(`${this.url}/_scripted/stats`)).json();
  }

  release(gate) {
    return fetch(`${this.url}/_scripted/release/${gate}`, { method: 'POST' });
  }

  someoneWaitsAt(gate) {
    return until(`the model to wait at ${gate}`, async () => (await this.stats()).waiting.includes(gate));
  }
}

/** `longhand serve` on a directory; `restarted` goes on with the same one. */
export class Server extends Process {
  static async start(home, modelUrl, environment = {}) {
    const settings = {
      LONGHAND_API_KEY: KEY,
      ANTHROPIC_API_KEY: 'sk-scripted-default',
      ANTHROPIC_BASE_URL: modelUrl,
      LONGHAND_EGRESS_ALLOW_PRIVATE: '127.0.0.0/8',
      // No suite dials outside.
      LONGHAND_EGRESS_ENABLED: 'false',
      ...environment,
    };
    const args = ['serve', '--listen', '127.0.0.1:0', '--data-dir', join(home, 'data')];
    const server = await Process.start(Server, BINARY, args, join(home, 'longhand.log'), settings);
    server.restarted = () => Server.start(home, modelUrl, environment);
    return server;
  }

  get url() {
    return this.ready.listening;
  }

  client(options = {}) {
    return new Anthropic({ baseURL: this.url, apiKey: KEY, ...options });
  }
}

/** A model and a server for one file of tests; `end` ends both. */
export async function world() {
  const home = mkdtempSync(join(tmpdir(), 'longhand-ts-'));
  const model = await Model.start(home);
  const server = await Server.start(home, model.url).catch(async (error) => {
    await model.kill();
    throw error;
  });
  const all = { home, model, server, client: server.client() };
  all.end = async () => {
    await all.server.kill();
    await model.kill();
    rmSync(home, { recursive: true, force: true });
  };
  return all;
}

/** Answers everything with what `upstream` answers, and remembers method, path and headers. */
export async function recorder(upstream) {
  const seen = [];
  const listener = createServer(async (request, response) => {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    seen.push({ method: request.method, path: request.url, headers: request.headers });
    const { host, connection, 'content-length': _, ...headers } = request.headers;
    const body = pieces.length > 0 ? Buffer.concat(pieces) : undefined;
    const answer = await fetch(upstream + request.url, { method: request.method, headers, body });
    const kept = [...answer.headers].filter(([name]) => !/^(content-(length|encoding)|transfer-encoding|connection)$/.test(name));
    response.writeHead(answer.status, Object.fromEntries(kept)).end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const close = () => new Promise((resolve) => (listener.closeAllConnections(), listener.close(resolve)));
  return { url: `http://127.0.0.1:${listener.address().port}`, seen, close };
}

export const unique = (word = 'x') => `${word}-${randomUUID().slice(0, 13)}`;

/** What a user says so that the scripted model does these steps. */
export const script = (...steps) => `${unique('task')} SCRIPT: ${JSON.stringify(steps)}`;
export const bash = (command, more = {}) => ({ tool: 'bash', input: { command }, ...more });
export const message = (text) => ({ type: 'user.message', content: [{ type: 'text', text }] });

export const agent = (client, more = {}) =>
  client.beta.agents.create({ name: unique('agent'), model: MODEL, tools: [{ type: 'agent_toolset_20260401' }], ...more });
export const environment = (client, more = {}) => client.beta.environments.create({ name: unique('environment'), ...more });

/** A new session with an agent and an environment of its own. */
export async function session(client, { agent: fields = {}, ...more } = {}) {
  const [one, two] = await Promise.all([agent(client, fields), environment(client)]);
  return client.beta.sessions.create({ agent: one.id, environment_id: two.id, ...more });
}

/** Everything that an iterator gives. */
export async function all(iterable) {
  const items = [];
  for await (const item of await iterable) items.push(item);
  return items;
}

/** The events of an open stream up to and including the next end of a turn. */
export async function collect(stream) {
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (event.type === 'session.status_idle') return events;
  }
  throw new Error(`the stream ended before the turn did: ${kinds(events)}`);
}

/** Opens the stream, then sends, then reads to the end of the turn. */
export async function turn(client, id, events, options = {}) {
  const stream = await client.beta.sessions.events.stream(id, options);
  await client.beta.sessions.events.send(id, { events });
  return collect(stream);
}

export const say = (client, id, ...steps) => turn(client, id, [message(script(...steps))]);
export const log = (client, id) => all(client.beta.sessions.events.list(id));
export const kinds = (events) => events.map((event) => event.type);
export const of = (events, kind) => events.filter((event) => event.type === kind);
export const text = (event) => (event.content ?? []).map((block) => (block.type === 'text' ? block.text : '')).join('');
export const said = (events) => of(events, 'agent.message').map(text);
export const results = (events) => of(events, 'agent.tool_result').map((event) => [Boolean(event.is_error), text(event)]);

export const RUNNING = ['session.status_running', 'session.thread_status_running'];
export const IDLE = ['session.thread_status_idle', 'session.usage', 'session.status_idle'];
/** The kinds of one model request that produced `events`. */
export const request = (...events) => ['span.model_request_start', ...events, 'span.model_request_end'];
