-- What sessions were asked to reach, in the order in which it was asked: `n` counts from 1 in each session.
CREATE TABLE outcomes (
  session      BIGINT NOT NULL,
  n            BIGINT NOT NULL,
  id           TEXT NOT NULL,
  description  TEXT NOT NULL,
  iteration    BIGINT NOT NULL,
  result       TEXT NOT NULL,
  explanation  TEXT,
  completed_at BIGINT,
  PRIMARY KEY (session, n)
);

-- The model is shown outcomes and verdicts too.
DROP INDEX events_transcript;
CREATE INDEX events_transcript ON events (session, thread, seq) WHERE kind IN
  ('user.message', 'system.message', 'user.define_outcome', 'user.custom_tool_result',
   'agent.tool_result', 'agent.thread_context_compacted', 'span.model_request_end',
   'span.outcome_evaluation_end');
