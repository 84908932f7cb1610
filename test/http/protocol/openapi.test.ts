import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../../support/api.ts'
import { get, type JsonResponse, post } from '../../support/client.ts'
import { createChecker, lint } from '../../support/documents.ts'

const operations = {
  create: defineOperation({
    name: 'note.create',
    summary: 'Create a note',
    route: { method: 'POST', url: '/notes' },
    input: Type.Object({ text: Type.String() }),
    result: Type.Object({ length: Type.Integer() }),
  }),
  remove: defineOperation({
    name: 'note.remove',
    route: { method: 'DELETE', url: '/notes/:id' },
    params: Type.Object({ id: Type.String() }),
    input: Type.Object({}),
    accept: async (_trx, entries) => entries.map(() => ({ payload: {} })),
  }),
}

// Only the app that uses this package can satisfy these rules.
const redoclyRules = { 'info-license': 'off', 'no-empty-servers': 'off', 'no-server-example.com': 'off' }

t.test('Redocly reports no warnings about the OpenAPI document', async (t) => {
  const { url } = await serve(t, { operations })
  const { body } = await get(`${url}/openapi.json`)
  t.match(body.openapi, /^3\.1\./)
  t.same(await lint(body, redoclyRules), [])
})

t.test('Redocly reports no warnings about the AsyncAPI document', async (t) => {
  const { url } = await serve(t, { operations })
  const { body } = await get(`${url}/asyncapi.json`)
  t.equal(body.asyncapi, '3.0.0')
  t.same(await lint(body, redoclyRules), [])
})

t.test('every response matches the OpenAPI document', async (t) => {
  const { url, database } = await serve(t, {
    operations,
    authenticate: () => ({ principal: 'ann', scopes: ['admin'] }),
    rateLimit: { requests: 1_000, seconds: 60 },
  })
  const checker = createChecker((await get(`${url}/openapi.json`)).body)
  const seen: string[] = []
  const check = (method: string, path: string, answer: JsonResponse) => {
    seen.push(`${method} ${path} ${answer.status}`)
    t.same(checker.violations(method, path, answer), [], `${method} ${path} ${answer.status}`)
    return answer
  }
  const set = (id: string, assignments: string) =>
    database.pool.query(`update accepted.job set ${assignments} where id = $1`, [id])
  const create = async (headers: Record<string, string> = {}) =>
    check('POST', '/notes', await send('POST', `${url}/notes`, { ...json, ...headers }, '{"text":"x"}'))
  const read = async (path: string, id: string, headers: Record<string, string> = {}) =>
    check('GET', path, await get(url + path.replace('{id}', id), headers))
  const act = async (method: string, path: string, id: string, headers: Record<string, string> = {}) =>
    check(method, path, await send(method, url + path.replace('{id}', id), headers))

  // Makes sure that the checker finds an undeclared header and a wrong body.
  const undeclared = { status: 200, headers: new Headers({ 'retry-after': '1' }), body: undefined }
  t.same(checker.violations('GET', '/webhooks', undeclared), ['200: no header retry-after'])
  t.equal(checker.violations('GET', '/jobs', { ...(await get(`${url}/jobs`)), body: { value: [{}] } }).length > 0, true)

  // Requests that submit jobs.
  const { id } = (await create({ 'idempotency-key': 'k', prefer: 'respond-async' })).body
  await create({ 'idempotency-key': 'k' })
  check('POST', '/notes', await post(`${url}/notes`, { text: 'y' }, { 'idempotency-key': 'k' }))
  check('POST', '/notes', await post(`${url}/notes`, { text: 1 }))
  await create({ 'idempotency-key': '' })
  await create({ 'content-type': 'text/plain' })
  await create({ accept: 'image/png' })
  const removal = await send('DELETE', `${url}/notes/1`, { 'content-type': 'application/json' }, '{}')
  check('DELETE', '/notes/{id}', removal)

  const batch = { items: [{ operation: 'note.create', input: { text: 'x' } }] }
  for (const body of [batch, batch, { items: [] }, { ...batch, allowFailures: true }]) {
    check('POST', '/batches', await post(`${url}/batches`, body, { 'idempotency-key': 'batch' }))
  }
  check('POST', '/batches', await send('POST', `${url}/batches`, { 'content-type': 'text/plain' }, 'x'))
  const { body: family } = await post(`${url}/batches`, batch)
  await read('/jobs/{id}', family.id)
  await database.pool.query('select accepted.cancel($1)', [family.id])
  await read('/jobs/{id}', family.id)
  await read('/jobs/{id}/result', family.id)

  // A pending job.
  await read('/jobs/{id}', id)
  await read('/jobs/{id}', id, { 'if-none-match': '"1"' })
  await read('/jobs/{id}', id, { accept: 'text/html' })
  await read('/jobs/{id}', id, { accept: 'image/png' })
  await read('/jobs/{id}', 'none')
  await read('/jobs/{id}/result', id)
  await act('POST', '/jobs/{id}/retry', id)
  await act('POST', '/jobs/{id}/cancel', id, { 'if-match': '"7"' })
  await set(
    id,
    `status = 'running', percent = 40, message = 'half', attempt = 1, attempt_started_at = now() - interval '5s'`,
  )
  await read('/jobs/{id}', id)
  await act('POST', '/jobs/{id}/cancel', id)

  // Jobs that have ended.
  await set(id, `status = 'succeeded', ended_at = now(), result = '{"length":1}'`)
  const { sequence } = (await read('/jobs/{id}', id)).body
  await read('/jobs/{id}/result', id)
  await read('/jobs/{id}/events', id)
  await read('/jobs/{id}/events', id, { 'last-event-id': String(sequence) })
  await act('DELETE', '/jobs/{id}', id)
  await set(id, 'result = null')
  await read('/jobs/{id}/result', id)
  await set(id, `resource = '/notes/1'`)
  await read('/jobs/{id}/result', id)
  await create({ 'idempotency-key': 'k', prefer: 'wait=1, return=representation' })
  await create({ 'idempotency-key': 'k', prefer: 'wait=1' })
  const { id: failed } = (await create()).body
  await set(
    failed,
    `status = 'failed', ended_at = now(), error = '{"code":"c","message":"m","public":true,"details":[1]}', payload = '{}'`,
  )
  await read('/jobs/{id}', failed)
  await read('/jobs/{id}/result', failed)
  await set(failed, `error = '{"code":"c","message":"m","public":true,"status":422}'`)
  await read('/jobs/{id}/result', failed)
  const { body: again } = await act('POST', '/jobs/{id}/retry', failed)
  await act('POST', '/jobs/{id}/cancel', again.id)
  await read('/jobs/{id}/result', again.id)
  await act('DELETE', '/jobs/{id}', again.id)
  await set(id, `expires_at = now()`)
  await read('/jobs/{id}', id)

  // The list of jobs.
  await create()
  check('GET', '/jobs', await get(`${url}/jobs?limit=1`))
  check('GET', '/jobs', await get(`${url}/jobs?limit=none`))
  check('GET', '/events', await get(`${url}/events`, { accept: 'image/png' }))

  // Webhooks.
  const register = (body: unknown) => post(`${url}/webhooks`, body)
  const { body: endpoint } = check('POST', '/webhooks', await register({ url: 'https://example.com/' }))
  check('POST', '/webhooks', await register({ url: 'x'.repeat(2 ** 20) }))
  check('POST', '/webhooks', await register({ url: 'none' }))
  check('GET', '/webhooks', await get(`${url}/webhooks`))
  await read('/webhooks/{id}', endpoint.id)
  const xml = { 'content-type': 'application/xml' }
  const rotated = await send('POST', `${url}/webhooks/${endpoint.id}/rotate`, xml, '<x/>')
  t.equal(check('POST', '/webhooks/{id}/rotate', rotated).status, 200)
  const removed = await send('DELETE', `${url}/webhooks/${endpoint.id}`, xml, '<x/>')
  t.equal(check('DELETE', '/webhooks/{id}', removed).status, 204)
  await act('POST', '/webhooks/{id}/rotate', endpoint.id)
  await read('/webhooks/{id}', endpoint.id)
  t.comment(`${new Set(seen).size} different responses`)
})

const json = { 'content-type': 'application/json' }

async function send(
  method: string,
  url: string,
  headers: Record<string, string>,
  body?: string,
): Promise<JsonResponse> {
  const response = await fetch(url, { method, headers, ...(body && { body }), redirect: 'manual' })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : undefined }
}
