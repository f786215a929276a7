-- Threads of sessions beside their primary, in the order in which they began: `n` counts from 1 in each session.
-- `agent` is null for an advisor. What one that has not ended uses stands in the session's state; `totals` of one
-- that has, here.
CREATE TABLE threads (
  session     INTEGER NOT NULL,
  n           INTEGER NOT NULL,
  id          BLOB NOT NULL,
  agent       TEXT,
  status      TEXT NOT NULL,
  totals      TEXT,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  archived_at INTEGER,
  PRIMARY KEY (session, n)
) STRICT;
CREATE UNIQUE INDEX threads_id ON threads (session, id);

-- The model is shown what other threads say to its own.
DROP INDEX events_transcript;
CREATE INDEX events_transcript ON events (session, thread, seq) WHERE kind IN
  ('user.message', 'system.message', 'user.define_outcome', 'user.custom_tool_result',
   'agent.tool_result', 'agent.thread_message_received', 'agent.thread_context_compacted',
   'span.model_request_end', 'span.outcome_evaluation_end');

-- Each thread counts what waits for it and what it uses; until now there was one.
UPDATE session_states SET state = json_set(state,
  '$.primary.waiting', json_extract(state, '$.waiting'),
  '$.primary.totals', json(json_extract(state, '$.totals')));
