// Tokens of a real authorization server (oidc-provider, as anybody would run it): refreshed, each refresh token once, and
// its words when a grant is gone.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import Provider from 'oidc-provider';
import * as kit from '../kit.mjs';

const SECRET = 'a secret+with/odd: characters%';
const WAYS = {
  none: { type: 'none' },
  client_secret_basic: { type: 'client_secret_basic', client_secret: SECRET },
  client_secret_post: { type: 'client_secret_post', client_secret: SECRET },
};

let world;
let authority;
before(async () => {
  authority = await authorizationServer();
  world = await kit.world();
});
after(async () => {
  await world?.end();
  await authority?.close();
});

/** The authorization server, and beside it an MCP server that takes its access tokens and nothing else. */
async function authorizationServer() {
  let handle;
  const given = [];
  const listener = createServer(async (request, response) => {
    if (!request.url.startsWith('/mcp')) return handle(request, response);
    const token = request.headers.authorization?.replace(/^Bearer /, '');
    const known = token && (await provider.AccessToken.find(token));
    if (known) given.push(token);
    response.writeHead(known ? 200 : 401, { 'content-type': 'application/json' });
    response.end(JSON.stringify(known ? { jsonrpc: '2.0', id: 1, result: {} } : { error: 'no token of mine' }));
  });
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${listener.address().port}`;
  const shared = { redirect_uris: ['https://client.test/back'], response_types: ['code'] };
  const provider = new Provider(url, {
    clients: Object.entries(WAYS).map(([way, { client_secret }]) => ({
      ...shared,
      client_id: way,
      client_secret,
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: way,
    })),
    features: { devInteractions: { enabled: false } },
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    rotateRefreshToken: true,
    ttl: { AccessToken: 3600, Grant: 86400, IdToken: 3600, RefreshToken: 86400 },
  });
  handle = provider.callback();
  const close = () => {
    listener.closeAllConnections();
    return new Promise((resolve) => listener.close(resolve));
  };
  return { url, provider, given, close };
}

/** The refresh token of a person who has let that client in. */
async function letIn(clientId) {
  const { provider } = authority;
  const grant = new provider.Grant({ accountId: 'me', clientId });
  grant.addOIDCScope('openid offline_access');
  const grantId = await grant.save();
  const client = await provider.Client.find(clientId);
  const token = { client, grantId, accountId: 'me', scope: 'openid offline_access', gty: 'authorization_code' };
  return new provider.RefreshToken(token).save();
}

for (const way of Object.keys(WAYS)) {
  test(`a real authorization server refreshes a token, each refresh token once: ${way}`, async () => {
    const { url, provider, given } = authority;
    const credentials = world.client.beta.vaults.credentials;
    const vault = await world.client.beta.vaults.create({ display_name: way });
    const first = await letIn(way);
    const refresh = {
      client_id: way,
      refresh_token: first,
      token_endpoint: `${url}/token`,
      token_endpoint_auth: WAYS[way],
    };
    const auth = { type: 'mcp_oauth', access_token: 'of-yesterday', mcp_server_url: `${url}/mcp`, refresh };
    const made = await credentials.create(vault.id, { auth });
    const tried = () => credentials.mcpOAuthValidate(made.id, { vault_id: vault.id });

    const refreshed = await tried();
    assert.deepEqual([refreshed.status, refreshed.refresh?.status], ['valid', 'succeeded'], JSON.stringify(refreshed));
    const expires = (await credentials.retrieve(made.id, { vault_id: vault.id })).auth.expires_at;
    assert.ok(Date.parse(expires) > Date.now(), expires);
    assert.equal((await tried()).refresh, null);
    // The second refresh token is used next: the first one was for once.
    await (await provider.AccessToken.find(given.at(-1))).destroy();
    const again = await tried();
    assert.deepEqual([again.status, again.refresh?.status], ['valid', 'succeeded'], JSON.stringify(again));
    assert.equal(new Set(given).size >= 2, true);

    // Somebody shows the first one again: it was stolen, for all that the server knows, and it ends the grant.
    const stolen = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: first, client_id: way });
    const headers = {};
    if (way === 'client_secret_post') stolen.set('client_secret', SECRET);
    if (way === 'client_secret_basic') {
      stolen.delete('client_id');
      const pair = `${way}:${encodeURIComponent(SECRET)}`;
      headers.authorization = `Basic ${Buffer.from(pair).toString('base64')}`;
    }
    const thief = await fetch(`${url}/token`, { method: 'POST', body: stolen, headers });
    assert.equal((await thief.json()).error, 'invalid_grant');
    const over = await tried();
    assert.deepEqual([over.status, over.refresh?.status], ['invalid', 'failed'], JSON.stringify(over));
    assert.equal(over.refresh.http_response.status_code, 400);
    assert.match(over.refresh.http_response.body, /invalid_grant/);
    for (const token of [...given, first]) assert.ok(!JSON.stringify(over).includes(token));
  });
}
