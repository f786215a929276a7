-- What sessions are made from stands once for all that are made from the same: a new session then writes less than half
-- as much. `sessions` is what a session is, whoever reads it; `session_rows` and `grounds` are how that is kept on a file.

-- `n` sessions are made from it; when none is left it goes. It is found by its `key`, a hash of the rest; those of older
-- sessions have none, and are not found.
CREATE TABLE grounds (
  num              INTEGER PRIMARY KEY,
  n                INTEGER NOT NULL,
  key              BLOB UNIQUE,
  agent_version    INTEGER NOT NULL,
  environment      TEXT NOT NULL REFERENCES environments (id),
  vaults           TEXT NOT NULL,
  agent_body       TEXT NOT NULL,
  environment_body TEXT NOT NULL
) STRICT;
CREATE INDEX grounds_environment ON grounds (environment);
INSERT INTO grounds
  SELECT num, 1, NULL, agent_version, environment, vaults, agent_body, environment_body FROM sessions;

-- `num` names it inside the database and is never used again. `agent_body` is the agent since it was changed.
CREATE TABLE session_rows (
  num        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  workspace  TEXT NOT NULL,
  agent      TEXT NOT NULL,
  ground     INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  title      TEXT,
  metadata   TEXT NOT NULL,
  agent_body TEXT
) STRICT;
INSERT INTO session_rows
  SELECT num, id, workspace, agent, num, created_at, title, metadata, NULL FROM sessions;

-- The last number that was given to a session: one row, written once a transaction.
CREATE TABLE session_numbers (
  last INTEGER NOT NULL
) STRICT;
INSERT INTO session_numbers
  SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sessions'), 0);

DROP TABLE sessions;
CREATE INDEX session_rows_page ON session_rows (workspace, created_at, id);
CREATE INDEX session_rows_agent ON session_rows (workspace, agent, created_at, id);
CREATE VIEW sessions AS
  SELECT s.num, s.id, s.workspace, s.agent, g.agent_version, g.environment, s.created_at, s.title, s.metadata, g.vaults,
    coalesce(s.agent_body, g.agent_body) AS agent_body, g.environment_body
  FROM session_rows s JOIN grounds g ON g.num = s.ground;
