-- Instants are microseconds since the epoch. Ids are their text, except in the tables that grow with
-- every event (events, inbox), which hold the 16 bytes of an id. JSON is text.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE workspaces (
  id          TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  archived_at INTEGER
) STRICT;
CREATE INDEX workspaces_page ON workspaces (created_at, id);

CREATE TABLE api_keys (
  id         TEXT PRIMARY KEY,
  workspace  TEXT NOT NULL REFERENCES workspaces (id),
  hash       BLOB NOT NULL UNIQUE,
  prefix     TEXT NOT NULL,
  last4      TEXT NOT NULL,
  name       TEXT NOT NULL,
  operator   INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER
) STRICT;
CREATE INDEX api_keys_page ON api_keys (created_at, id);

CREATE TABLE agents (
  id          TEXT PRIMARY KEY,
  workspace   TEXT NOT NULL,
  version     INTEGER NOT NULL,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  archived_at INTEGER
) STRICT;
CREATE INDEX agents_page ON agents (workspace, created_at, id);

CREATE TABLE agent_versions (
  agent      TEXT NOT NULL REFERENCES agents (id),
  version    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  body       TEXT NOT NULL,
  PRIMARY KEY (agent, version)
) STRICT;

CREATE TABLE environments (
  id          TEXT PRIMARY KEY,
  workspace   TEXT NOT NULL,
  revision    INTEGER NOT NULL,
  name        TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  archived_at INTEGER,
  body        TEXT NOT NULL
) STRICT;
CREATE INDEX environments_page ON environments (workspace, created_at, id);
CREATE UNIQUE INDEX environments_name ON environments (workspace, name) WHERE archived_at IS NULL;

CREATE TABLE vaults (
  id           TEXT PRIMARY KEY,
  workspace    TEXT NOT NULL,
  revision     INTEGER NOT NULL,
  display_name TEXT NOT NULL,
  metadata     TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  archived_at  INTEGER
) STRICT;
CREATE INDEX vaults_page ON vaults (workspace, created_at, id);

-- `auth` is what clients may see; `sealed` is the encrypted secret, null once the credential is archived.
-- `slot` is what at most one active credential of a vault may occupy: an MCP server or a variable's name.
CREATE TABLE credentials (
  id           TEXT PRIMARY KEY,
  vault        TEXT NOT NULL REFERENCES vaults (id) ON DELETE CASCADE,
  revision     INTEGER NOT NULL,
  kind         TEXT NOT NULL,
  slot_kind    TEXT,
  slot         TEXT,
  auth         TEXT NOT NULL,
  display_name TEXT,
  metadata     TEXT NOT NULL,
  sealed       BLOB,
  key_version  INTEGER,
  created_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  archived_at  INTEGER
) STRICT;
CREATE INDEX credentials_page ON credentials (vault, created_at, id);
CREATE UNIQUE INDEX credentials_slot ON credentials (vault, slot_kind, slot)
  WHERE archived_at IS NULL AND slot IS NOT NULL;

-- What of a session rarely changes. `num` names it inside the database and is never used again.
CREATE TABLE sessions (
  num            INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,
  workspace      TEXT NOT NULL,
  agent          TEXT NOT NULL,
  agent_version  INTEGER NOT NULL,
  environment    TEXT NOT NULL REFERENCES environments (id),
  created_at     INTEGER NOT NULL,
  title          TEXT,
  metadata       TEXT NOT NULL,
  vaults         TEXT NOT NULL,
  agent_body     TEXT NOT NULL,
  environment_body TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_page ON sessions (workspace, created_at, id);
CREATE INDEX sessions_agent ON sessions (workspace, agent, created_at, id);
CREATE INDEX sessions_environment ON sessions (environment);

-- What changes with every input: apart, so that a commit rewrites a small row.
CREATE TABLE session_states (
  num         INTEGER PRIMARY KEY,
  generation  INTEGER NOT NULL,
  status      TEXT NOT NULL,
  updated_at  INTEGER NOT NULL,
  archived_at INTEGER,
  state       TEXT NOT NULL
) STRICT;

CREATE TABLE events (
  session      INTEGER NOT NULL,
  seq          INTEGER NOT NULL,
  id           BLOB NOT NULL,
  thread       BLOB NOT NULL,
  on_primary   INTEGER NOT NULL,
  kind         TEXT NOT NULL,
  processed_at INTEGER NOT NULL,
  body         TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_seq ON events (session, seq);
CREATE UNIQUE INDEX events_id ON events (session, id);
-- What the model is shown: a turn reads this and skips everything else.
CREATE INDEX events_transcript ON events (session, thread, seq) WHERE kind IN
  ('user.message', 'system.message', 'user.custom_tool_result', 'agent.tool_result',
   'agent.thread_context_compacted', 'span.model_request_end');

CREATE TABLE records (
  session INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  kind    TEXT NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (session, seq, kind)
) STRICT;

-- User events that wait, oldest first by `n`. `event` is the core's form, `body` the wire's. At most 1,000
-- wait in a session and they are taken oldest first, so that none is looked up by its id.
CREATE TABLE inbox (
  n       INTEGER PRIMARY KEY,
  session INTEGER NOT NULL,
  id      BLOB NOT NULL,
  thread  BLOB NOT NULL,
  kind    TEXT NOT NULL,
  event   TEXT NOT NULL,
  body    TEXT NOT NULL
) STRICT;
-- Ends in `n`, as every index ends in the row's number.
CREATE INDEX inbox_order ON inbox (session);

-- Exactly the sessions with an open turn.
CREATE TABLE runs (
  session          INTEGER PRIMARY KEY,
  id               TEXT NOT NULL,
  held             INTEGER NOT NULL,
  generation       INTEGER NOT NULL,
  holder           TEXT,
  due_at           INTEGER NOT NULL,
  lease_expires_at INTEGER
) STRICT;
CREATE INDEX runs_due ON runs (due_at) WHERE held = 0;
CREATE INDEX runs_lease ON runs (lease_expires_at) WHERE held = 1 AND lease_expires_at IS NOT NULL;

-- Deleted sessions whose events are still being removed, a bounded number at a time.
CREATE TABLE trash (
  session INTEGER PRIMARY KEY
) STRICT;
