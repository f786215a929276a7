-- Beside the log: where a session runs, how its time went, and what it used by day.

-- Survives the loss of what it points to. `generation` is the one that wrote it.
CREATE TABLE bindings (
  session    BIGINT PRIMARY KEY,
  generation BIGINT NOT NULL,
  since      BIGINT NOT NULL,
  body       TEXT NOT NULL
);

-- `turn` is the place of the event that opened the turn; `took` is in microseconds, null for a moment.
CREATE TABLE timeline (
  session BIGINT NOT NULL,
  n       BIGINT NOT NULL,
  turn    BIGINT NOT NULL,
  at      BIGINT NOT NULL,
  took    BIGINT,
  kind    TEXT NOT NULL,
  detail  TEXT NOT NULL,
  PRIMARY KEY (session, n)
);

-- Sums, kept when a session is deleted. `day` counts days since the epoch, UTC. `cost` is in picodollars,
-- of the requests that had a price; `active` in microseconds.
CREATE TABLE usage_days (
  workspace  TEXT COLLATE "C" NOT NULL,
  agent      TEXT COLLATE "C" NOT NULL,
  day        BIGINT NOT NULL,
  input      BIGINT NOT NULL,
  output     BIGINT NOT NULL,
  cache_read BIGINT NOT NULL,
  cache_5m   BIGINT NOT NULL,
  cache_1h   BIGINT NOT NULL,
  cost       BIGINT NOT NULL,
  active     BIGINT NOT NULL,
  PRIMARY KEY (day, workspace, agent)
);
