-- Threads of sessions beside their primary, in the order in which they began: `n` counts from 1 in each session.
-- `agent` is null for an advisor. What one that has not ended uses stands in the session's state; `totals` of one
-- that has, here.
CREATE TABLE threads (
  session     BIGINT NOT NULL,
  n           BIGINT NOT NULL,
  id          BYTEA NOT NULL,
  agent       TEXT,
  status      TEXT NOT NULL,
  totals      TEXT,
  created_at  BIGINT NOT NULL,
  updated_at  BIGINT NOT NULL,
  archived_at BIGINT,
  PRIMARY KEY (session, n)
);
CREATE UNIQUE INDEX threads_id ON threads (session, id);

-- The model is shown what other threads say to its own.
DROP INDEX events_transcript;
CREATE INDEX events_transcript ON events (session, thread, seq) WHERE kind IN
  ('user.message', 'system.message', 'user.define_outcome', 'user.custom_tool_result',
   'agent.tool_result', 'agent.thread_message_received', 'agent.thread_context_compacted',
   'span.model_request_end', 'span.outcome_evaluation_end');
