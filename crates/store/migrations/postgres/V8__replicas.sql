-- Several servers on one database.

-- Who they are. Times are microseconds of this database's clock. `holder` is one start of one of them, as it
-- stands in `runs`; `linked_at` is when its link to the database was made last, `seen_at` 0 once it has left.
CREATE TABLE replicas (
  name      TEXT COLLATE "C" PRIMARY KEY,
  holder    TEXT COLLATE "C" NOT NULL,
  version   TEXT NOT NULL,
  linked_at BIGINT NOT NULL,
  seen_at   BIGINT NOT NULL,
  turns     BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX replicas_holder ON replicas (holder);

-- Those that are there, as a connection of one of them sees it. One that was cut off itself gives the others
-- time to come back.
CREATE VIEW live_replicas AS
  SELECT p.name, p.holder, p.turns FROM replicas p
  WHERE p.seen_at > 0 AND greatest(p.seen_at,
      (SELECT m.linked_at FROM replicas m WHERE m.name = current_setting('longhand.replica', true)))
    > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
      - coalesce(nullif(current_setting('longhand.dead_after', true), '')::bigint, 4000000);

-- What a commit changed for other servers; kept for some minutes. The order of `id` is not that of the commits.
CREATE TABLE changes (
  id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid    XID8 NOT NULL DEFAULT pg_current_xact_id(),
  at     BIGINT NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
  origin TEXT NOT NULL,
  body   TEXT NOT NULL
);
CREATE INDEX changes_xid ON changes (xid);
CREATE INDEX changes_at ON changes (at);

-- The server that has the session's workspace.
ALTER TABLE bindings ADD COLUMN host TEXT COLLATE "C";

CREATE INDEX runs_holder ON runs (holder) WHERE held;
