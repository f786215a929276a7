-- What the edge needs to be fair and to answer twice alike.

-- Answers kept under a client's Idempotency-Key. `id` and `request` are keyed hashes: neither the key nor
-- the request can be read or guessed from them.
CREATE TABLE kept_answers (
  id         BLOB PRIMARY KEY,
  request    BLOB NOT NULL,
  expires_at INTEGER NOT NULL,
  body       BLOB NOT NULL
) STRICT;
CREATE INDEX kept_answers_expiry ON kept_answers (expires_at);

-- How much of something a workspace has, so that a cap is checked without counting.
CREATE TABLE tallies (
  workspace TEXT NOT NULL,
  thing     TEXT NOT NULL,
  n         INTEGER NOT NULL,
  PRIMARY KEY (workspace, thing)
) STRICT, WITHOUT ROWID;
INSERT INTO tallies SELECT workspace, 'session', count(*) FROM sessions GROUP BY workspace;
INSERT INTO tallies SELECT workspace, 'vault', count(*) FROM vaults GROUP BY workspace;

CREATE TRIGGER sessions_come AFTER INSERT ON sessions BEGIN
  INSERT INTO tallies VALUES (NEW.workspace, 'session', 1)
    ON CONFLICT (workspace, thing) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER sessions_go AFTER DELETE ON sessions BEGIN
  UPDATE tallies SET n = n - 1 WHERE workspace = OLD.workspace AND thing = 'session';
END;
CREATE TRIGGER vaults_come AFTER INSERT ON vaults BEGIN
  INSERT INTO tallies VALUES (NEW.workspace, 'vault', 1)
    ON CONFLICT (workspace, thing) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER vaults_go AFTER DELETE ON vaults BEGIN
  UPDATE tallies SET n = n - 1 WHERE workspace = OLD.workspace AND thing = 'vault';
END;
