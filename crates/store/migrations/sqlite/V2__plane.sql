-- Beside the log: where a session runs, how its time went, and what it used by day.

-- Survives the loss of what it points to. `generation` is the one that wrote it.
CREATE TABLE bindings (
  session    INTEGER PRIMARY KEY,
  generation INTEGER NOT NULL,
  since      INTEGER NOT NULL,
  body       TEXT NOT NULL
) STRICT;

-- `turn` is the place of the event that opened the turn; `took` is in microseconds, null for a moment.
CREATE TABLE timeline (
  session INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  turn    INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  took    INTEGER,
  kind    TEXT NOT NULL,
  detail  TEXT NOT NULL,
  PRIMARY KEY (session, n)
) STRICT, WITHOUT ROWID;

-- Sums, kept when a session is deleted. `day` counts days since the epoch, UTC. `cost` is in picodollars,
-- of the requests that had a price; `active` in microseconds.
CREATE TABLE usage_days (
  workspace  TEXT NOT NULL,
  agent      TEXT NOT NULL,
  day        INTEGER NOT NULL,
  input      INTEGER NOT NULL,
  output     INTEGER NOT NULL,
  cache_read INTEGER NOT NULL,
  cache_5m   INTEGER NOT NULL,
  cache_1h   INTEGER NOT NULL,
  cost       INTEGER NOT NULL,
  active     INTEGER NOT NULL,
  PRIMARY KEY (day, workspace, agent)
) STRICT, WITHOUT ROWID;
