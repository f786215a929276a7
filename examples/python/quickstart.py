# pip install anthropic; then with a running server (`longhand serve`):
#   ANTHROPIC_BASE_URL=http://127.0.0.1:8787 ANTHROPIC_API_KEY=lh_… python quickstart.py
import sys

from anthropic import Anthropic

task = sys.argv[1] if len(sys.argv) > 1 else "Write the first ten primes to primes.txt, then show me the file."
beta = Anthropic().beta
agent = beta.agents.create(name="Quickstart", model="claude-sonnet-5-5", tools=[{"type": "agent_toolset_20260401"}])
environment = beta.environments.create(name=f"quickstart {agent.id}")
session = beta.sessions.create(agent=agent.id, environment_id=environment.id)
with beta.sessions.events.stream(session.id) as stream:  # open first: a stream shows what happens from now on
    beta.sessions.events.send(session.id, events=[{"type": "user.message", "content": [{"type": "text", "text": task}]}])
    for event in stream:
        if event.type == "agent.message":
            print("".join(block.text for block in event.content if block.type == "text"))
        elif event.type == "agent.tool_use":
            print(f"[{event.name}] {event.input}")
        elif event.type == "session.error":
            print(f"error: {event.error.message}", file=sys.stderr)
        elif event.type == "session.status_idle":
            break
