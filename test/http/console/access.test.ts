import { defineOperation } from 'accepted'
import type { RouteOptions } from 'fastify'
import t from 'tap'
import Type from 'typebox'
import { createKey } from '../../../src/jobs/api-key.ts'
import type { Scope } from '../../../src/scopes.ts'
import { serve } from '../../support/api.ts'
import { type Sent, sendAsBrowser } from './client.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

const routes: RouteOptions[] = []
const { app, url, database } = await serve(
  t,
  { operations: { note }, publicUrl: 'https://jobs.example.com/ops', rateLimit: { requests: 600, seconds: 3600 } },
  (app) => app.addHook('onRoute', (route) => void routes.push(route)),
  'console',
)
const query = async (text: string, values: unknown[] = []) => (await database.pool.query(text, values)).rows
const ofConsole = routes.filter(({ config, method }) => config?.console && method !== 'HEAD')

const send = (path: string, { cookie, ...sent }: Sent & { cookie?: string | undefined } = {}) =>
  sendAsBrowser(url + path, { ...sent, headers: { ...(cookie && { cookie }), ...sent.headers } })

const addKey = (scopes: Scope[], operations?: string[]) =>
  database.kysely
    .transaction()
    .execute((trx) =>
      createKey(trx as never, { name: 'key', principal: 'ops', scopes, ...(operations && { operations }) }),
    )

/** Signs in, and returns the header Cookie. */
async function signIn(key: string): Promise<string> {
  const { status, headers } = await send('/console/login', { form: { key } })
  if (status !== 303) throw new Error(`The login answered ${status}`)
  return headers.getSetCookie()[0]?.split(';', 1)[0] as string
}

const pathOf = ({ url }: RouteOptions) =>
  url.replace(':id', '01a1fd26-9b1c-7c3e-9d0f-2f4f1f0f6a51').replace(/:\w+/g, 'note.create') +
  (url.endsWith('/bulk') ? '?action=cancel' : '')

t.test('until the first key exists, the console is open to this machine, under its own names only', async (t) => {
  t.equal((await send('/console')).status, 200)
  const rebound = await app.inject({ url: '/console', headers: { host: 'evil.example.com' } })
  t.match(rebound, { statusCode: 303, headers: { location: '/ops/console/login' } })
})

t.test('with keys', async (t) => {
  const { key, id: keyId } = await addKey(['operate'])
  const cookie = await signIn(key)
  const narrowed = await addKey(['operate'])
  const narrowCookie = await signIn(narrowed.key)
  await query(`update accepted.api_key set scopes = '{submit,read,cancel}' where id = $1`, [narrowed.id])

  t.test('every route is public or for operators', async (t) => {
    t.same(
      ofConsole.filter(({ config }) => config?.console === 'public').map(({ method, url }) => `${method} ${url}`),
      [
        ...['console.css', 'console.js', 'console-charts.js', 'uPlot.esm.js', 'uPlot.min.css'].map(
          (name) => `GET /console/assets/${name}`,
        ),
        ...['GET /console/login', 'POST /console/login', 'POST /console/logout'],
      ],
    )
  })

  for (const route of ofConsole.filter(({ config }) => config?.console === 'operator')) {
    t.test(`${route.method} ${route.url}: a stranger is led to the login, and operators get in`, async (t) => {
      const method = String(route.method)
      const form = method === 'POST' ? { form: {} } : {}
      const path = pathOf(route)
      for (const foreign of [undefined, 'accepted_console=x', `accepted_console=${'a'.repeat(43)}`]) {
        const { status, headers, body } = await send(path, { method, ...form, cookie: foreign })
        t.equal(status, 303)
        t.match(headers.get('location'), /^\/ops\/console\/login/)
        t.equal(body, '')
      }
      const bearer = await send(path, { method, ...form, headers: { authorization: `Bearer ${key}` } })
      t.equal(bearer.status, 303, 'the key itself is only for the login')
      const withoutScope = await send(path, { method, ...form, cookie: narrowCookie })
      t.match(withoutScope, { status: 403, body: 'requires the scope operate' })
      const { status, headers } = await send(path, { method, ...form, cookie })
      t.ok([200, 303, 404].includes(status), `${status}`)
      t.notMatch(headers.get('location') ?? '', 'login')
      if (status === 303) return
      t.match(headers.get('content-security-policy'), /^default-src 'none'; script-src 'self'; style-src 'self'/)
      t.equal(headers.get('cache-control'), 'no-store')
    })
  }

  t.test('the cookie is for the console only, and no page can read it', async (t) => {
    const { headers } = await send('/console/login', { form: { key } })
    t.match(
      headers.getSetCookie()[0],
      /^accepted_console=[\w-]{43}; Path=\/ops\/console; Max-Age=43200; HttpOnly; SameSite=Strict; Secure$/,
    )
    t.equal((await send('/jobs', { cookie })).status, 401, 'the JSON API does not read it')
  })

  t.test('a key without the scope, or for some operations, is refused', async (t) => {
    for (const [scopes, operations] of [[['submit', 'read', 'cancel']], [['operate'], ['note.create']]] as [
      Scope[],
      string[]?,
    ][]) {
      const narrow = await addKey(scopes, operations)
      const { status, headers } = await send('/console/login', { form: { key: narrow.key } })
      t.equal(status, 403)
      t.same(headers.getSetCookie(), [])
    }
  })

  t.test('the session loses its access with its key', async (t) => {
    const own = await addKey(['admin'])
    const session = await signIn(own.key)
    t.equal((await send('/console', { cookie: session })).status, 200)
    await query(`update accepted.api_key set scopes = '{read}' where id = $1`, [own.id])
    t.equal((await send('/console', { cookie: session })).status, 403)
    await query(`update accepted.api_key set scopes = '{admin}', revoked_at = now() where id = $1`, [own.id])
    t.equal((await send('/console', { cookie: session })).status, 303)
    const expired = await addKey(['operate'])
    const other = await signIn(expired.key)
    await query('update accepted.api_key set expires_at = now() where id = $1', [expired.id])
    t.equal((await send('/console', { cookie: other })).status, 303)
    const old = await signIn(key)
    await query('update accepted.console_session set expires_at = now()')
    t.equal((await send('/console', { cookie: old })).status, 303, 'after twelve hours')
  })

  t.test('signing out ends the session', async (t) => {
    const session = await signIn(key)
    t.equal((await send('/console/logout', { form: {}, cookie: session })).status, 303)
    t.equal((await send('/console', { cookie: session })).status, 303)
  })

  t.test('after the login, the page that was asked for is shown, and no other site', async (t) => {
    const asked = await send('/console/stuck?a=b')
    t.equal(asked.headers.get('location'), '/ops/console/login?next=%2Fops%2Fconsole%2Fstuck%3Fa%3Db')
    for (const [next, location] of [
      ['/ops/console/stuck?a=b', '/ops/console/stuck?a=b'],
      ['/ops/console/..//evil.example.com', '/ops/console'],
      ['//evil.example.com/ops/console', '/ops/console'],
      ['https://evil.example.com', '/ops/console'],
      ['/ops/consoles', '/ops/console'],
    ] as const) {
      const { headers } = await send('/console/login', { form: { key, next } })
      t.equal(headers.get('location'), location)
    }
  })

  t.test('a form of another origin changes nothing', async (t) => {
    const session = await signIn(key)
    const sendFrom = (headers: Record<string, string>) =>
      send('/console/logout', { form: {}, cookie: session, headers })
    for (const headers of [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site', origin: 'https://other.example.com' },
      { 'sec-fetch-site': 'none' },
    ]) {
      t.equal((await sendFrom(headers)).status, 403, JSON.stringify(headers))
    }
    const withoutMetadata = async (headers: Record<string, string>) => {
      const response = await fetch(`${url}/console/logout`, {
        ...{ method: 'POST', redirect: 'manual', body: new URLSearchParams({}) },
        headers: { cookie: session, ...headers },
      })
      return response.status
    }
    t.equal(await withoutMetadata({}), 403)
    t.equal(await withoutMetadata({ origin: 'null' }), 403)
    t.equal(await withoutMetadata({ origin: 'https://evil.example.com' }), 403)
    t.equal((await send('/console', { cookie: session })).status, 200, 'the session continues')
    t.equal(await withoutMetadata({ origin: 'https://jobs.example.com' }), 303, 'the public origin')
  })

  t.test('wrong keys count as failed authentications of the address', async (t) => {
    const statuses = new Set<number>()
    for (let attempt = 0; attempt < 110; attempt++) {
      statuses.add((await send('/console/login', { form: { key: `accepted_${attempt}` } })).status)
    }
    t.same([...statuses].sort(), [401, 429])
    t.equal((await send('/console/login', { form: { key } })).status, 303, 'a key that was good still works')
  })

  t.test('the use of the key is recorded, and neither key nor token is stored', async (t) => {
    const [{ used }] = await query('select last_used_at is not null as used from accepted.api_key where id = $1', [
      keyId,
    ])
    t.ok(used)
    const token = cookie.split('=')[1] as string
    const [{ stored }] = await query(
      `select count(*) > 0 as stored from accepted.console_session where encode(hash, 'base64') = $1`,
      [token],
    )
    t.notOk(stored)
  })
})

t.test('an app with an authenticate function of its own decides who gets in', async (t) => {
  const own = await serve(
    t,
    {
      operations: { note },
      authenticate: ({ headers }) =>
        headers.cookie === undefined ? null : { principal: 'olga', scopes: [headers.cookie.replace('scope=', '')] },
    },
    undefined,
    'console',
  )
  const statusFor = async (cookie?: string, path = '') =>
    (await fetch(`${own.url}/console${path}`, { headers: { ...(cookie && { cookie }) } })).status
  t.equal(await statusFor('scope=operate'), 200)
  t.equal(await statusFor('scope=read'), 403)
  t.equal(await statusFor(), 401)
  t.equal(await statusFor('scope=operate', '/login'), 404, 'there is nothing to sign in to')
})
