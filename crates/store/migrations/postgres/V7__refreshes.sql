-- One row for each active OAuth credential. `due_at` is when somebody should look at it next, ahead of its
-- expiry: 0 as soon as may be, null never (it is not known to expire, has nothing to refresh it with, or its
-- grant is gone). Nobody refreshes before `retry_at`. `refused` once the authorization server said that the grant
-- is gone: only a change of the credential brings it back. `holder` refreshes until `lease_until`.
CREATE TABLE refreshes (
  credential  TEXT COLLATE "C" PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
  due_at      BIGINT,
  retry_at    BIGINT NOT NULL,
  failures    BIGINT NOT NULL,
  refused     BOOLEAN NOT NULL,
  holder      BYTEA,
  lease_until BIGINT
);
CREATE INDEX refreshes_due ON refreshes (due_at) WHERE due_at IS NOT NULL;

-- What a rotation of the master key still has to wrap.
CREATE INDEX credentials_key ON credentials (key_version, id) WHERE key_version IS NOT NULL;
