import { randomUUID } from 'node:crypto'
import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { hashSecret } from '../../../src/jobs/api-key.ts'
import { serve } from '../../support/api.ts'
import { get } from '../../support/client.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})

const docs = [
  '/docs',
  '/docs/',
  '/docs/json',
  '/docs/yaml',
  '/docs/static/swagger-ui.css',
  '/openapi.json',
  '/asyncapi.json',
]
const forAll = ['/docs/problems/not-found', '/docs/job.js', '/docs/job.css', '/health/live', '/health/ready']
const token = 'a token for Prometheus'.replaceAll(' ', '-')
const bearer = (credential: string) => ({ authorization: `Bearer ${credential}` })

t.test('while there are no keys, this machine may read documentation and metrics', async (t) => {
  const { url } = await serve(t, { operations: { note } })
  for (const path of [...docs, ...forAll, '/metrics']) t.equal((await get(url + path)).status, 200, path)
})

t.test('once a key exists, documentation needs a key, and metrics the token or a scope', async (t) => {
  const { url, database } = await serve(t, { operations: { note }, metricsToken: token })
  const addKey = async (...scopes: string[]) => {
    const key = `accepted_${randomUUID()}`
    const values = [randomUUID(), hashSecret(key), scopes]
    const text = `insert into accepted.api_key (id, name, prefix, hash, principal, scopes)
      values ($1, 'k', 'accepted', $2, 'ann', $3)`
    await database.pool.query(text, values)
    return key
  }
  const key = await addKey('read')
  const admin = await addKey('admin')
  for (const path of docs) {
    const refused = await get(url + path)
    t.equal(refused.status, 401, path)
    t.match(refused.headers.get('www-authenticate'), /^Bearer, Basic realm=/)
    t.equal((await get(url + path, bearer(key))).status, 200)
    const password = Buffer.from(`any name:${key}`).toString('base64')
    t.equal((await get(url + path, { authorization: `Basic ${password}` })).status, 200)
    t.equal((await get(url + path, { authorization: 'Basic eDp5' })).status, 401)
  }
  for (const path of forAll) t.equal((await get(url + path)).status, 200, path)

  const metrics = async (credential?: string) =>
    (await get(`${url}/metrics`, credential === undefined ? {} : bearer(credential))).status
  t.equal(await metrics(), 401)
  t.equal(await metrics('wrong'), 401)
  t.equal(await metrics(`${token}x`), 401)
  t.equal(await metrics(key), 403)
  t.equal(await metrics(admin), 200)
  t.equal(await metrics(token), 200)
  t.equal((await get(`${url}/jobs`, bearer(token))).status, 401, 'the token is for nothing else')
  const password = Buffer.from(`any name:${key}`).toString('base64')
  t.equal((await get(`${url}/jobs`, { authorization: `Basic ${password}` })).status, 401)
})

t.test('with a token, or an authenticate function, this machine has no more rights than others', async (t) => {
  const withToken = await serve(t, { operations: { note }, metricsToken: token })
  t.equal((await get(`${withToken.url}/metrics`)).status, 403)
  t.equal((await get(`${withToken.url}/metrics`, bearer(token))).status, 200)
  const { url } = await serve(t, {
    operations: { note },
    authenticate: ({ headers }) => {
      const user = headers['x-user']?.toString()
      return user === 'ops' ? { principal: user, scopes: ['operate'] } : (user ?? null)
    },
  })
  for (const path of docs) {
    t.equal((await get(url + path)).status, 401, path)
    t.equal((await get(url + path, { 'x-user': 'ann' })).status, 200, path)
  }
  for (const [user, status] of [
    ['ann', 403],
    ['ops', 200],
  ] as const) {
    t.equal((await get(`${url}/metrics`, { 'x-user': user })).status, status)
  }
  t.equal((await get(`${url}/metrics`)).status, 401)
})
