// An authorization server that was not written here: oidc-provider, a certified implementation of OpenID Connect.
//
//   node provider.mjs PORT AUDIENCE
//
// It listens on the loopback only, logs everybody in as the `login_hint` says and gives every consent. AUDIENCE is the
// resource (RFC 8707) whose tokens are JWTs (RFC 9068); AUDIENCE/opaque gives opaque ones. What a test needs to do to
// it is below /control: it is asked, never patched.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';

import Provider, { errors } from 'oidc-provider';
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js';

const [port, audience] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const scopes = [
  'hybrid:subscribe:*',
  'hybrid:publish:*',
  'hybrid:subscribe:room:*',
  'hybrid:publish:room:*',
  'hybrid:revoke',
];
const algorithms = ['ES256', 'RS256', 'PS256', 'Ed25519', 'EdDSA'];
const secret = 'a secret of a client that exists for tests only';
const asked = {};
let lifetime = 600;
let keys = [];
let handle;

function newKeys() {
  const mark = Math.random().toString(36).slice(2, 8);
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    PS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    Ed25519: generateKeyPairSync('ed25519'),
  };
  return Object.entries(pairs).map(([alg, { privateKey }]) => ({
    ...privateKey.export({ format: 'jwk' }),
    kid: `${alg}-${mark}`,
    use: 'sig',
    // Both names of one algorithm (RFC 9864) are asked for, so its key says neither.
    ...(alg === 'Ed25519' ? {} : { alg }),
  }));
}

const spa = {
  client_id: 'spa',
  token_endpoint_auth_method: 'none',
  redirect_uris: ['https://spa.example/callback'],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
};
const machine = {
  client_secret: secret,
  token_endpoint_auth_method: 'client_secret_basic',
  redirect_uris: [],
  grant_types: ['client_credentials'],
  response_types: [],
};
const configuration = {
  adapter: createMemoryAdapter(), // one store for all providers of this process
  clients: [
    spa,
    { ...spa, client_id: 'other-spa' },
    // One machine client for each algorithm, named after it; the resource server is one that only introspects.
    ...algorithms.map((alg) => ({ ...machine, client_id: `machine-${alg}` })),
    { ...machine, client_id: 'hybrid', grant_types: [] },
    { ...machine, client_id: 'stranger', grant_types: [] },
  ],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  cookies: { keys: ['for tests only'] },
  scopes: ['openid'],
  ttl: {
    AccessToken: 600,
    AuthorizationCode: 60,
    ClientCredentials: 600,
    Grant: 3600,
    IdToken: 600,
    Interaction: 600,
    RefreshToken: 3600,
    Session: 3600,
  },
  enabledJWA: {
    idTokenSigningAlgValues: algorithms,
    dPoPSigningAlgValues: ['ES256', 'Ed25519', 'EdDSA'],
  },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: () => false,
  rotateRefreshToken: () => true,
  revokeGrantPolicy: () => true,
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    dPoP: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientId === 'hybrid' },
    revocation: { enabled: true, allowedPolicy: (ctx, client, token) => client.clientId === token.clientId },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource, client) => {
        const isOpaque = resource.endsWith('/opaque');
        if (!URL.canParse(resource)) throw new errors.InvalidTarget();
        const alg = client.clientId.startsWith('machine-') ? client.clientId.slice('machine-'.length) : 'ES256';
        return {
          scope: scopes.join(' '),
          // Of the opaque one the audience is the server's own, too; whoever asks for another resource gets a token
          // for that.
          audience: isOpaque ? resource.slice(0, -'/opaque'.length) : resource,
          accessTokenTTL: lifetime,
          accessTokenFormat: isOpaque ? 'opaque' : 'jwt',
          jwt: { sign: { alg } },
        };
      },
    },
  },
};

async function interact(provider, request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  const accountId = session?.accountId ?? params.login_hint ?? 'alice';
  const grant = (grantId && (await provider.Grant.find(grantId))) || new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope('openid');
  grant.addResourceScope(params.resource ?? audience, scopes.join(' '));
  const result = { consent: { grantId: await grant.save() } };
  if (prompt.name === 'login') result.login = { accountId };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

// Rotation: tokens, sessions and grants are kept in one store by all providers of this process, the keys are not.
function begin(kept) {
  const fresh = newKeys();
  keys = [...fresh, ...kept];
  const provider = new Provider(issuer, { ...configuration, jwks: { keys } });
  provider.on('server_error', (ctx, error) => console.error(error));
  const callback = provider.callback();
  handle = (request, response) => (
    request.url.startsWith('/interaction/') ? interact(provider, request, response) : callback(request, response)
  );
}

function control(url, response) {
  if (url.pathname === '/control/rotate') begin(url.searchParams.has('keep') ? keys : []);
  if (url.pathname === '/control/lifetime') lifetime = Number(url.searchParams.get('s'));
  const body = JSON.stringify({ asked, kids: keys.map((key) => key.kid) });
  response.writeHead(200, { 'content-type': 'application/json' }).end(body);
}

begin([]);
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  try {
    if (url.pathname.startsWith('/control/')) {
      control(url, response);
    } else {
      asked[url.pathname] = (asked[url.pathname] ?? 0) + 1;
      await handle(request, response);
    }
  } catch (error) {
    console.error(error);
    if (!response.headersSent) response.writeHead(500);
    response.end();
  }
}).listen(Number(port), '127.0.0.1', () => console.log(`listening on ${issuer}`));
