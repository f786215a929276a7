"""Sends messages to one session, each through the next of several servers, until its standard input ends.

    load.py ADDRESSES KEY SESSION

ADDRESSES is a file with the servers' URLs, read again for every message. It says what it sends and what was
acknowledged, a line of JSON each. A message that the SDK sends again goes under the same Idempotency-Key.
"""

import json
import sys
import threading

import anthropic

STEPS = json.dumps([{"text": "one", "delay_ms": 50, "chunks": 3}])


def main(addresses, key, session):
    ended = threading.Event()

    def listen():
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    clients, number = {}, 0
    while not ended.is_set():
        with open(addresses, encoding="utf-8") as file:
            servers = json.load(file)
        server = servers[number % len(servers)]
        if server not in clients:
            clients[server] = anthropic.Anthropic(api_key=key, base_url=server, timeout=10.0)
        token = f"{session}-python-{number}"
        number += 1
        print(json.dumps({"sent": token}), flush=True)
        message = {"type": "user.message", "content": [{"type": "text", "text": f"{token}\n\nSCRIPT: {STEPS}"}]}
        try:
            sent = clients[server].beta.sessions.events.send(
                session, events=[message], extra_headers={"Idempotency-Key": token}
            )
            print(json.dumps({"acknowledged": [event.id for event in sent.data]}), flush=True)
        except anthropic.APIError:
            # It may be there all the same; nobody promised it.
            pass
        ended.wait(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
