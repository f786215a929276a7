-- What the edge needs to be fair and to answer twice alike.

-- Answers kept under a client's Idempotency-Key. `id` and `request` are keyed hashes: neither the key nor
-- the request can be read or guessed from them.
CREATE TABLE kept_answers (
  id         BYTEA PRIMARY KEY,
  request    BYTEA NOT NULL,
  expires_at BIGINT NOT NULL,
  body       BYTEA NOT NULL
);
CREATE INDEX kept_answers_expiry ON kept_answers (expires_at);

-- How much of something a workspace has, so that a cap is checked without counting. Who adds or removes a
-- row counts it.
CREATE TABLE tallies (
  workspace TEXT NOT NULL,
  thing     TEXT NOT NULL,
  n         BIGINT NOT NULL,
  PRIMARY KEY (workspace, thing)
) WITH (fillfactor = 60);
