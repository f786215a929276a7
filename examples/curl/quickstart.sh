#!/usr/bin/env bash
# With a running server (`longhand serve`):
#   ANTHROPIC_BASE_URL=http://127.0.0.1:8787 ANTHROPIC_API_KEY=lh_… bash quickstart.sh
set -euo pipefail
: "${ANTHROPIC_BASE_URL:?where the server listens}" "${ANTHROPIC_API_KEY:?a key of the server}"

task=${1:-Write the first ten primes to primes.txt, then show me the file.}
# As a JSON string: backslashes, quotes and line ends escaped, other control characters left out.
task=${task//\\/\\\\} task=${task//\"/\\\"} task=${task//$'\n'/\\n} task=${task//[[:cntrl:]]/ }

api() { # METHOD PATH [BODY]
  curl --silent --show-error --fail-with-body --request "$1" "$ANTHROPIC_BASE_URL$2" \
    --header "authorization: Bearer $ANTHROPIC_API_KEY" --header 'content-type: application/json' \
    --header 'anthropic-version: 2026-10-21' --header 'anthropic-beta: managed-agents-2026-04-01' \
    ${3:+--data "$3"}
}
id() { grep -o "\"id\":\"$1_[^\"]*" | head -n 1 | cut -d '"' -f 4; }

agent=$(api POST /v1/agents '{"name":"Quickstart","model":"claude-sonnet-5-5","tools":[{"type":"agent_toolset_20260401"}]}' | id agent)
environment=$(api POST /v1/environments "{\"name\":\"quickstart $agent\"}" | id env)
message="{\"type\":\"user.message\",\"content\":[{\"type\":\"text\",\"text\":\"$task\"}]}"
session=$(api POST /v1/sessions "{\"agent\":\"$agent\",\"environment_id\":\"$environment\",\"initial_events\":[$message]}" | id sesn)
until api GET "/v1/sessions/$session" | grep -Eq '"status":"(idle|terminated)"'; do sleep 1; done
api GET "/v1/sessions/$session/events?types[]=agent.tool_use&types[]=agent.tool_result&types[]=agent.message&types[]=session.error"
echo
