import { join } from 'node:path'
import t from 'tap'
import { get, post } from '../support/client.ts'
import { run as spawnCommand } from '../support/command.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { start, todosConfig } from '../support/program.ts'
import { until } from '../support/until.ts'
import { writeApp } from './app.ts'

t.test('while no key exists, all requests are anonymous; once a key exists, each request needs a key', async (t) => {
  const databaseUrl = await createDatabase(t)
  const DATABASE_URL = databaseUrl
  const api = await start(t, 'api', { databaseUrl })
  const todo = { title: 'x' }
  const anonymous = await post(`${api.url}/todos`, todo)
  t.equal(anonymous.status, 202)
  t.match((await run(['keys', 'list'], { DATABASE_URL })).out, /^No API keys/)

  const added = await run(['keys', 'add', 'phone', '--principal', 'ann', '--json'], { DATABASE_URL })
  t.equal(added.code, 0)
  const { id, key } = JSON.parse(added.out)
  const printed = await run(['keys', 'add', 'laptop', '--principal', 'bob'], { DATABASE_URL })
  t.match(
    printed.out,
    /^accepted_\S{43}\n\nThis key is shown only once\..*\nRequests with this key have the principal bob and the scopes submit, read, cancel\.\n/,
  )
  const bobsKey = printed.out.split('\n')[0] as string

  const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
  // For one second, the API caches the fact that no key exists.
  const without = await until(async () => {
    const answer = await post(`${api.url}/todos`, todo)
    return answer.status !== 202 && answer
  })
  t.equal(without.status, 401)
  t.equal(without.headers.get('www-authenticate'), 'Bearer')
  t.match(without.body, { error: { code: 'unauthenticated' } })
  t.equal((await get(`${api.url}/todos`)).status, 401, "the app's own routes require a key")
  t.equal((await get(`${api.url}/health/ready`)).status, 200, 'the health routes require no key')
  for (const authorization of ['Bearer nonsense', 'Bearer', 'Basic YTpi', key]) {
    t.equal((await post(`${api.url}/todos`, todo, { authorization })).status, 401, authorization)
  }
  const { status, body } = await post(`${api.url}/todos`, todo, bearer(key))
  t.equal(status, 202)
  t.equal((await get(body.links.self, bearer(key))).status, 200)
  t.equal((await get(body.links.self, bearer(bobsKey))).status, 404, "Bob does not see Ann's job")
  t.equal((await get(anonymous.body.links.self, bearer(key))).status, 404)

  t.match(await run(['keys', 'revoke', id], { DATABASE_URL }), { code: 0, out: `Revoked ${id}.\n` })
  await until(async () => (await post(`${api.url}/todos`, todo, bearer(key))).status === 401)
  const listed = await run(['keys', 'list', '--json'], { DATABASE_URL })
  t.match(JSON.parse(listed.out), [
    { name: 'phone', principal: 'ann', status: 'revoked', revokedAt: String },
    { name: 'laptop', principal: 'bob', status: 'valid', lastUsedAt: String },
  ])
  t.notMatch(listed.out, bobsKey)
})

t.test("once a key exists, only those of the app's own routes that are public need no key", async (t) => {
  const databaseUrl = await createDatabase(t)
  t.equal((await run(['keys', 'add', 'ann'], { DATABASE_URL: databaseUrl })).code, 0)
  const routes = `
    export default async (app) => {
      const answer = async (request) => ({ principal: request.principal ?? null })
      app.get('/login', { config: { public: true } }, answer)
      app.get('/orders', answer)
      app.get('/secrets', { config: { public: 'false' } }, answer)
      await app.register(async (scope) => {
        scope.get('/page.js', { config: { public: true } }, answer)
        scope.get('/other', answer)
      })
    }`
  const directory = await writeApp(t, { 'routes.js': routes })
  const { url } = await start(t, 'api', { config: join(directory, 'accepted.config.js'), databaseUrl })
  for (const path of ['/login', '/page.js']) {
    t.match(await get(url + path), { status: 200, body: { principal: null } }, path)
    t.equal((await get(url + path, { authorization: 'Bearer wrong' })).status, 200, 'no credential is looked at')
    t.equal((await fetch(url + path, { method: 'HEAD' })).status, 200, path)
  }
  for (const path of ['/orders', '/secrets', '/other']) t.equal((await get(url + path)).status, 401, path)
  t.equal((await post(`${url}/login`, {})).status, 405)
})

t.test('if a key is unknown, the command prints one error line', async (t) => {
  const ran = await run(['keys', 'revoke', 'x'], { DATABASE_URL: await createDatabase(t) })
  t.match(ran, { code: 1, err: 'error: There is no key x. `accepted keys list` shows all keys.\n' })
})

t.test('wrong options of a key are refused with a sentence', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  for (const [args, message] of [
    [[''], 'The name of a key must have 1 to 200 characters.'],
    [['x'.repeat(201), '--principal', 'ann'], 'The name of a key must have 1 to 200 characters.'],
    [['phone', '--principal', ''], '--principal is invalid: it must not be empty.'],
    [['schedule'], "--principal is invalid: it must not be 'schedule': *, schedule, webhook:…"],
    [
      ['phone', '--scopes', 'read,write'],
      "--scopes must be some of submit, read, cancel, operate, admin, not 'write'.",
    ],
    [['phone', '--scopes', ','], '--scopes must be some of'],
    [['phone', '--expires', '2d6h'], "--expires must be a duration of at most 3650d, like 12h or 30d, not '2d6h'."],
    [['phone', '--expires', '99999999d'], '--expires must be a duration of at most 3650d'],
    [['phone', '--expires', '0d'], '--expires must be a duration'],
    [
      ['phone', '--operations', 'todo.creat'],
      '--operations is invalid: it must be the name of an operation, not todo.creat.',
    ],
  ] as const) {
    const { code, err } = await run(['keys', 'add', ...args], { DATABASE_URL })
    t.equal(code, 1)
    t.ok(err.startsWith(`error: ${message}`), err)
  }
  t.same(JSON.parse((await run(['keys', 'list', '--json'], { DATABASE_URL })).out), [])
})

t.test('a rotated key is accepted for another day, and its successor has the same rights', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const json = async (...args: string[]) => JSON.parse((await run(['keys', ...args, '--json'], { DATABASE_URL })).out)
  const options = ['--principal', 'ann', '--scopes', 'read', '--expires', '30d']
  const old = await json('add', 'phone', ...options)
  const rotated = await json('rotate', old.id)
  t.match(rotated, { name: 'phone', principal: 'ann', scopes: ['read'], rotatedFrom: old.id })
  t.not(rotated.key, old.key)
  const lifetimes = (await json('list')).map((key: { expiresAt: string }) => Date.parse(key.expiresAt) - Date.now())
  const day = 86_400_000
  t.ok(lifetimes[0] > 0.99 * day && lifetimes[0] <= day, `the old key: ${lifetimes[0]} ms`)
  t.ok(lifetimes[1] > 29.9 * day && lifetimes[1] <= 30 * day, `the new key: ${lifetimes[1]} ms`)

  t.equal((await run(['keys', 'rotate', old.id], { DATABASE_URL })).code, 1, 'the old key is not rotated again')
  await run(['keys', 'revoke', old.id], { DATABASE_URL })
  t.match(await run(['keys', 'rotate', old.id], { DATABASE_URL }), {
    ...{
      code: 1,
      err: `error: There is no valid key ${old.id}, or it was replaced before. \`accepted keys list\` shows all keys.\n`,
    },
  })
})

t.test('once a key has existed, requests without a key stay refused, even if the table is emptied', async (t) => {
  const databaseUrl = await createDatabase(t)
  const api = await start(t, 'api', { databaseUrl })
  t.equal((await get(`${api.url}/jobs`)).status, 200)
  await run(['keys', 'add', 'phone'], { DATABASE_URL: databaseUrl })
  await queryOnce(databaseUrl, 'delete from accepted.api_key')
  await until(async () => (await get(`${api.url}/jobs`)).status === 401)
  t.match((await run(['keys', 'list'], { DATABASE_URL: databaseUrl })).out, /^No API keys: all requests are rejected/)
})

t.test('without keys, the API serves other machines only if that was chosen', async (t) => {
  const databaseUrl = await createDatabase(t)
  const env = { HOST: '0.0.0.0', HOSTS: '*' }
  const refused = await spawnCommand(['api', '--config', todosConfig], { ...env, DATABASE_URL: databaseUrl, PORT: '0' })
  t.equal(refused.code, 1)
  t.match(
    refused.err,
    /^error: With HOST=0\.0\.0\.0, other machines can reach the API, .* because no API key exists\./m,
  )
  t.match(refused.err, /`accepted keys add <name>`.*`authenticate`.*ALLOW_ANONYMOUS=1/)

  const chosen = await start(t, 'api', { databaseUrl, env: { ...env, ALLOW_ANONYMOUS: '1' } })
  t.equal((await get(`${chosen.url}/jobs`)).status, 200)
  t.match(chosen.output(), /No API key exists: requests from every machine are served/)
})
