-- Who adds or removes a session or a vault counts it. A trigger made each such statement write in two
-- places, for which SQLite copies every page before it changes it.
DROP TRIGGER sessions_come;
DROP TRIGGER sessions_go;
DROP TRIGGER vaults_come;
DROP TRIGGER vaults_go;
