import { accepted, defineOperation } from 'accepted'
import Fastify, { type RouteOptions } from 'fastify'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { openDatabase } from '../../src/db/database.ts'
import { servicePaths } from '../../src/http/route-paths.ts'
import { createKey } from '../../src/jobs/api-key.ts'
import { type Action, type Scope, scopes, scopesFor } from '../../src/scopes.ts'
import { maxRegistrationMs } from '../support/api.ts'
import { asRole, createDatabase } from '../support/database.ts'

const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ text: Type.String() }),
})
const other = defineOperation({ name: 'other', input: Type.Object({}) })

const statuses = ['queued', 'running', 'succeeded', 'failed', 'canceled'] as const

/** Routes that need no credential. test/http/console/access.test.ts checks those of the console. A new route that needs none has to be added here. */
const openRoutes = [
  '/health/live',
  '/health/ready',
  '/metrics',
  '/openapi.json',
  '/openapi.yaml',
  '/asyncapi.json',
  '/asyncapi.yaml',
  '/docs',
  '/docs/*',
  '/docs/problems',
  '/docs/problems/:code',
  '/docs/job.css',
  '/docs/job.js',
  '/jobs/client.js',
]

const databaseUrl = await createDatabase(t)
const database = openDatabase({ url: databaseUrl })
t.teardown(() => database.close())
const query = async (text: string, values: unknown[] = []) => (await database.pool.query(text, values)).rows

const routes: RouteOptions[] = []
const app = Fastify({ pluginTimeout: maxRegistrationMs, forceCloseConnections: true })
t.teardown(() => app.close())
app.addHook('onRoute', (route) => void routes.push(route))
await app.register(accepted, {
  ...{ operations: { note, other }, routes: servicePaths, rateLimit: false, database: asRole(databaseUrl, 'api') },
})
const url = await app.listen({ host: '127.0.0.1', port: 0 })

const guarded = routes.filter(({ config }) => config?.action)
const actionOf = (route: RouteOptions) => route.config?.action as Action

async function addKey(
  principal: string,
  given: readonly Scope[],
  operations?: string[],
): Promise<{ id: string; key: string }> {
  return database.kysely.transaction().execute((trx) => {
    const wanted = { name: 'key', principal, scopes: [...given], ...(operations && { operations }) }
    return createKey(trx as never, wanted)
  })
}

/** Adds a job of ann. */
async function addJob(status: (typeof statuses)[number]): Promise<string> {
  const [{ id }] = await query(`select accepted.enqueue('note.create', '{"text":"x"}', principal => 'ann') as id`)
  if (status !== 'queued') {
    const ended = status === 'running' ? 'null' : 'now()'
    await query(
      `update accepted.job set status = $2::text::accepted.job_status, attempt = 1, started_at = now(), ended_at = ${ended},
      error = case when $2::text = 'failed' then '{"code":"x","message":"y"}'::jsonb end where id = $1`,
      [id, status],
    )
  }
  return id
}

interface Answer {
  status: number
  headers: Record<string, string>
  body: string
}

/** Sends a request to a route. Of a stream, reads only the head. */
async function request(route: RouteOptions, id: string, key: string | undefined): Promise<Answer> {
  const method = String(route.method)
  const body = route.url === '/batches' ? { items: [{ operation: note.name, input: { text: 'x' } }] } : { text: 'x' }
  const bodies: Record<string, object> = {
    '/webhooks': { url: 'https://example.com' },
    ...(route.url === '/webhooks/:id/resend' && { [route.url]: { jobId: await addJob('succeeded') } }),
    '/keys': { name: 'new' },
  }
  const hasBody = method === 'POST' && (!route.url.includes('/:id') || Object.hasOwn(bodies, route.url))
  const response = await fetch(url + route.url.replace(':id', id), {
    method,
    redirect: 'manual',
    headers: { ...(key && { authorization: `Bearer ${key}` }), ...(hasBody && { 'content-type': 'application/json' }) },
    ...(hasBody && { body: JSON.stringify(bodies[route.url] ?? body) }),
  })
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream')
  const text = isStream ? '' : await response.text()
  if (isStream) await response.body?.cancel()
  const { date: _, ...headers } = Object.fromEntries(response.headers)
  return { status: response.status, headers, body: text.replaceAll(id, '<id>') }
}

const isJobRoute = ({ url }: RouteOptions) => url.startsWith('/jobs/:id')

/** Scopes that permit nothing of the action. */
const without = (action: Action) => scopes.filter((scope) => !scopesFor(action).includes(scope))

const keys = {
  owner: await addKey('ann', ['submit', 'read', 'cancel']),
  stranger: await addKey('bob', ['submit', 'read', 'cancel']),
  operator: await addKey('ops', ['operate']),
  admin: await addKey('root', ['admin']),
  'of another operation': await addKey('ann', ['submit', 'read', 'cancel'], ['other']),
  expired: await addKey('ann', ['admin']),
  revoked: await addKey('ann', ['admin']),
}
await query('update accepted.api_key set expires_at = now() where id = $1', [keys.expired.id])
await query('update accepted.api_key set revoked_at = now() where id = $1', [keys.revoked.id])

t.test('every route that needs no credential is known', async (t) => {
  const open = new Set(
    routes.filter(({ config, url }) => !config?.action && !config?.console && url !== '*').map(({ url }) => url),
  )
  // The documentation page consists of many files.
  const found = [...open].filter((path) => !path.startsWith('/docs/') || openRoutes.includes(path))
  t.same(
    found.filter((path) => !openRoutes.includes(path)),
    [],
  )
  t.ok(guarded.length > 20, `${guarded.length} routes need a credential`)
})

for (const route of guarded) {
  const name = `${route.method} ${route.url}`
  const action = actionOf(route)

  t.test(`${name}: without a valid credential 401, without its scope 403`, async (t) => {
    const narrow = without(action)
    const wrongScope = narrow.length > 0 ? await addKey('ann', narrow) : undefined
    for (const status of isJobRoute(route) ? statuses : statuses.slice(0, 1)) {
      const id = await addJob(status)
      for (const key of [undefined, 'accepted_unknown', keys.expired.key, keys.revoked.key]) {
        t.equal((await request(route, id, key)).status, 401)
      }
      if (wrongScope) t.equal((await request(route, id, wrongScope.key)).status, 403)
    }
  })

  if (isJobRoute(route)) compareJobRoute(route, name)
  else {
    t.test(`${name}: only who may`, async (t) => {
      const id = action === 'administer' ? await addAdministered(route) : uuid7()
      const allowed = (await request(route, id, keys.admin.key)).status
      t.ok(allowed < 400, `admin: ${allowed}`)
      const asOperator = (await request(route, id, keys.operator.key)).status
      t.equal(asOperator < 400, action === 'read', `operator: ${asOperator}`)
      const asOwner = (await request(route, id, keys.owner.key)).status
      t.equal(asOwner < 400, action !== 'administer', `owner: ${asOwner}`)
    })
  }
}

function compareJobRoute(route: RouteOptions, name: string): void {
  t.test(`${name}: a foreign job is as if absent; owner, operator and admin have access`, async (t) => {
    for (const status of statuses) {
      const absent = await request(route, uuid7(), keys.stranger.key)
      t.equal(absent.status, 404)
      for (const key of [keys.stranger, keys['of another operation']]) {
        t.same(await request(route, await addJob(status), key.key), absent, `${status}, like absent`)
      }
      t.same(await request(route, uuid7(), keys.admin.key), absent, 'absent for an admin too')
      const asOwner = await answerFor(t, route, status, 'owner')
      for (const who of ['operator', 'admin'] as const) {
        t.equal((await answerFor(t, route, status, who)).status, asOwner.status, `${status}: ${who}`)
      }
    }
  })
}

async function answerFor(
  t: Test,
  route: RouteOptions,
  status: (typeof statuses)[number],
  who: 'owner' | 'operator' | 'admin',
) {
  const answer = await request(route, await addJob(status), keys[who].key)
  t.notOk([401, 403, 404].includes(answer.status), `${status}, ${who}: ${answer.status}`)
  return answer
}

/** Adds what the route administers, and returns its id. */
async function addAdministered({ url }: RouteOptions): Promise<string> {
  if (url.startsWith('/keys')) return (await addKey('carl', ['read'])).id
  const [{ id }] = await query(`insert into accepted.webhook_endpoint (id, url, secrets)
    values (accepted.uuid7(), 'https://example.com', '{whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw}') returning id`)
  return id
}
