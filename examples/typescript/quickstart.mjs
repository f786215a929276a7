// npm install @anthropic-ai/sdk; then with a running server (`longhand serve`):
//   ANTHROPIC_BASE_URL=http://127.0.0.1:8787 ANTHROPIC_API_KEY=lh_… node quickstart.mjs
import Anthropic from '@anthropic-ai/sdk';

const task = process.argv[2] ?? 'Write the first ten primes to primes.txt, then show me the file.';
const { beta } = new Anthropic();
const agent = await beta.agents.create({
  name: 'Quickstart',
  model: 'claude-sonnet-5-5',
  tools: [{ type: 'agent_toolset_20260401' }],
});
const environment = await beta.environments.create({ name: `quickstart ${agent.id}` });
const session = await beta.sessions.create({ agent: agent.id, environment_id: environment.id });
const stream = await beta.sessions.events.stream(session.id); // open first: it shows what happens from now on
await beta.sessions.events.send(session.id, {
  events: [{ type: 'user.message', content: [{ type: 'text', text: task }] }],
});
for await (const event of stream) {
  if (event.type === 'agent.message') {
    console.log(event.content.map((block) => (block.type === 'text' ? block.text : '')).join(''));
  } else if (event.type === 'agent.tool_use') {
    console.log(`[${event.name}] ${JSON.stringify(event.input)}`);
  } else if (event.type === 'session.error') {
    console.error(`error: ${event.error.message}`);
  } else if (event.type === 'session.status_idle') {
    break;
  }
}
