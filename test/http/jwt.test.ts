import { createHmac, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { authenticateByJwt, defineOperation, type JwtOptions } from 'accepted'
import { SignJWT } from 'jose'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { get } from '../support/client.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwkOf = (key: KeyObject, kid: string) => ({
  ...createPublicKey(key).export({ format: 'jwk' }),
  kid,
  alg: 'ES256',
})

/** Serves the public keys of an issuer. */
async function startIssuer(t: Test) {
  const keys = new Map([['first', newKey().privateKey]])
  const state = { isDown: false, requests: 0 }
  const server = createServer((_request, response) => {
    state.requests += 1
    response.statusCode = state.isDown ? 500 : 200
    response.end(JSON.stringify({ keys: [...keys].map(([kid, key]) => jwkOf(key, kid)) }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`
  const sign = (
    claims: object,
    { kid = 'first', key = keys.get(kid) as KeyObject, expires = '1h' as string | number } = {},
  ) =>
    new SignJWT({ iss: url, aud: 'api', sub: 'ann', ...claims })
      .setProtectedHeader({ alg: 'ES256', kid })
      .setExpirationTime(expires)
      .sign(key)
  return { url, keys, state, sign }
}

async function setUp(t: Test, options: Partial<JwtOptions> = {}) {
  const issuer = await startIssuer(t)
  const given = { jwksUrl: issuer.url, issuer: issuer.url, audience: 'api', ...options }
  const api = await serve(t, { operations: { note }, authenticate: authenticateByJwt(given) })
  const statusWith = async (token: string, path = '/jobs') =>
    (await get(api.url + path, { authorization: `Bearer ${token}` })).status
  return { ...api, issuer, statusWith }
}

t.test('a token of the issuer for this API is accepted; any other is refused', async (t) => {
  const { issuer, statusWith } = await setUp(t)
  const { sign } = issuer
  t.equal(await statusWith(await sign({})), 200)
  t.equal(await statusWith(await sign({}, { expires: 1e14 })), 200, 'a token that expires after the latest Date')
  const public1 = JSON.stringify(jwkOf(issuer.keys.get('first') as KeyObject, 'first'))
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = encode({ iss: issuer.url, aud: 'api', sub: 'ann', exp: 4_000_000_000 })
  const signedBy = (head: string) => createHmac('sha256', public1).update(`${head}.${claims}`).digest('base64url')
  const hmacHead = encode({ alg: 'HS256', kid: 'first' })
  const valid = await sign({})
  for (const [name, token] of Object.entries({
    'another issuer': await sign({ iss: 'https://example.com' }),
    'another audience': await sign({ aud: 'other' }),
    'an expired token': await sign({}, { expires: '-1m' }),
    'no subject': await sign({ sub: undefined }),
    'an internal principal': await sign({ sub: 'webhook:1' }),
    'another key': await sign({}, { key: newKey().privateKey }),
    'an unknown key': await sign({}, { kid: 'second', key: newKey().privateKey }),
    'no signature': `${encode({ alg: 'none' })}.${claims}.`,
    'no signature, with text': `${encode({ alg: 'none' })}.${claims}.AAAA`,
    'the public key as a secret': `${hmacHead}.${claims}.${signedBy(hmacHead)}`,
    'changed claims': `${valid.split('.')[0]}.${claims}.${valid.split('.')[2]}`,
    'no token': 'accepted_key',
  })) {
    t.equal(await statusWith(token), 401, name)
  }
  const withoutExpiry = await new SignJWT({ iss: issuer.url, aud: 'api', sub: 'ann' })
    .setProtectedHeader({ alg: 'ES256', kid: 'first' })
    .sign(issuer.keys.get('first') as KeyObject)
  t.equal(await statusWith(withoutExpiry), 401, 'no expiry')
})

t.test('scopes come from the claims', async (t) => {
  const { issuer, statusWith } = await setUp(t)
  const { sign } = issuer
  t.equal(await statusWith(await sign({ scope: 'openid read' })), 200)
  t.equal(await statusWith(await sign({ scp: ['admin'] }), '/webhooks'), 200)
  t.equal(await statusWith(await sign({ scope: 'openid' })), 403, 'a token with other scopes permits nothing')
  t.equal(await statusWith(await sign({}), '/webhooks'), 403, 'a token without the claim is no admin')
  const mapped = await setUp(t, {
    principal: ({ tenant }) => String(tenant),
    scopes: ({ role }) => (role === 'ops' ? ['operate'] : ['read']),
  })
  t.equal(await mapped.statusWith(await mapped.issuer.sign({ tenant: 'x', role: 'ops' }), '/jobs?principal=ann'), 200)
  t.equal(await mapped.statusWith(await mapped.issuer.sign({ tenant: 'x' }), '/jobs?principal=ann'), 403)
})

t.test('while the keys cannot be fetched, the answer is 503; known keys are kept', async (t) => {
  const { url, issuer, statusWith } = await setUp(t)
  issuer.state.isDown = true
  const token = await issuer.sign({})
  const answer = await get(`${url}/jobs`, { authorization: `Bearer ${token}` })
  t.match(answer, { status: 503, body: { error: { code: 'authentication-unavailable' } } })
  t.ok(answer.headers.get('retry-after'))
  issuer.state.isDown = false
  t.equal(await statusWith(token), 200)
  issuer.state.isDown = true
  t.equal(await statusWith(token), 200)
})

t.test('a stream ends when its token expires', async (t) => {
  const { url, issuer } = await setUp(t)
  const token = await issuer.sign({}, { expires: '-2s' })
  const response = await fetch(`${url}/events`, { headers: { authorization: `Bearer ${token}` } })
  t.equal(response.status, 200, 'the clocks may differ by 5 s')
  await response.text()
  t.equal((await get(`${url}/events`, { authorization: `Bearer ${token}` })).status, 401)
})

t.test('options without which foreign tokens would be accepted are refused', async (t) => {
  const valid = { jwksUrl: 'https://example.com/jwks', issuer: 'https://example.com', audience: 'api' }
  t.ok(authenticateByJwt(valid))
  for (const [options, message] of [
    [{ ...valid, issuer: '' }, /option issuer/],
    [{ ...valid, audience: undefined }, /option audience/],
    [{ ...valid, jwksUrl: 'http://example.com/jwks' }, /option jwksUrl/],
    [{ ...valid, jwksUrl: 'x' }, /option jwksUrl/],
    [{ ...valid, principals: () => 'x' }, /Did you mean 'principal'/],
  ] as const) {
    t.throws(() => authenticateByJwt(options as never), { message })
  }
})
