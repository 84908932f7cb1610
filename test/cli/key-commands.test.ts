import t from 'tap'
import { get, post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

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
    /^accepted_\S{43}\n\nThis key is shown only once\..*\nRequests with this key have the principal bob\.\n/,
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
    { name: 'phone', principal: 'ann', revoked_at: String },
    { name: 'laptop', principal: 'bob', revoked_at: null },
  ])
  t.notMatch(listed.out, bobsKey)
})

t.test('if a key is unknown, the command prints one error line', async (t) => {
  const ran = await run(['keys', 'revoke', 'x'], { DATABASE_URL: await createDatabase(t) })
  t.match(ran, { code: 1, err: 'error: There is no key x. `accepted keys list` shows all keys.\n' })
})

t.test('a key needs a name and a principal', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  for (const args of [[''], ['phone', '--principal', ' ']]) {
    const { code, err } = await run(['keys', 'add', ...args], { DATABASE_URL })
    t.same([code, err], [1, 'error: The name and the principal of a key must not be empty.\n'])
  }
})
