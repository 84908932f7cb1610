import t from 'tap'
import { newEncryptionKey } from '../../src/primitives/key-ring.ts'
import { get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { start, todosConfig } from '../support/program.ts'
import { until } from '../support/until.ts'

t.test('the webhooks commands add, list, rotate and remove endpoints, and print text or JSON', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const webhooks = (...args: string[]) => run(['webhooks', ...args], { DATABASE_URL })
  t.match((await webhooks('list')).out, /^No webhook endpoints/)

  const added = await webhooks('add', 'https://example.com/hook')
  t.match(added, {
    code: 0,
    out: /^whsec_\S{44}\n\nThis secret is shown only once\..*https:\/\/example\.com\/hook\.\nTo remove the endpoint: /,
  })
  const narrow = ['--events', 'job.failed, job.canceled', '--operations', 'todo.create', '--config', todosConfig]
  const second = JSON.parse((await webhooks('add', 'http://10.0.0.1', ...narrow, '--json')).out)
  t.match(second, {
    url: 'http://10.0.0.1/',
    eventTypes: ['job.failed', 'job.canceled'],
    operations: ['todo.create'],
    secret: /^whsec_/,
  })

  const listed = await webhooks('list')
  const rows = listed.out.split('\n').map((line) => line.split(/ {2,}/))
  t.same(rows[0], ['ID', 'URL', 'EVENTS', 'OPERATIONS', 'PRINCIPAL', 'STATUS'])
  const allEvents = 'job.succeeded,job.failed,job.canceled'
  t.same(rows[1]?.slice(1), ['https://example.com/hook', allEvents, 'all', 'all', 'enabled'])
  const narrowCells = ['http://10.0.0.1/', 'job.failed,job.canceled', 'todo.create', 'all', 'enabled']
  t.same(rows[2], [second.id, ...narrowCells])
  t.notMatch(listed.out, 'whsec_')
  const machine = JSON.parse((await webhooks('list', '--json')).out)
  t.equal(machine.length, 2)
  t.notOk('secret' in machine[1])

  const rotated = await webhooks('rotate', second.id)
  t.match(rotated, { code: 0, out: /^whsec_\S{44}\n[\s\S]*For 24 hours, deliveries are signed with both/ })
  t.notMatch(rotated.out, second.secret)
  t.match(JSON.parse((await webhooks('rotate', second.id, '--json')).out), { id: second.id, secret: /^whsec_/ })

  t.match(await webhooks('remove', second.id), { code: 0, out: `Removed ${second.id}.\n` })
  const json = await webhooks('remove', machine[0].id, '--json')
  t.same(JSON.parse(json.out), { id: machine[0].id, removed: true })
  t.same(JSON.parse((await webhooks('list', '--json')).out), [])
})

t.test('the webhooks commands encrypt secrets with ENCRYPTION_KEYS, and rekey changes the key', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const [older, newer] = [newEncryptionKey('2026'), newEncryptionKey('2027')]
  const webhooks = (args: string[], ENCRYPTION_KEYS = '') =>
    run(['webhooks', ...args], { DATABASE_URL, ENCRYPTION_KEYS })
  const clear = await webhooks(['add', 'https://example.com/clear'])
  t.match(clear.err, /^warning: The signing secrets of webhooks are stored in clear: set ENCRYPTION_KEYS/)
  const added = await webhooks(['add', 'https://example.com', '--principal', 'ann', '--json'], older)
  t.match(added, { code: 0, err: '' })
  t.match(JSON.parse(added.out), { principal: 'ann' })
  t.match((await webhooks(['list'])).out, /https:\/\/example\.com\/ +\S+ +all +ann +enabled\n/)
  t.match(await webhooks(['rekey']), { code: 1, err: /^error: ENCRYPTION_KEYS is not set\. .*openssl rand/ })
  t.match(await webhooks(['rekey'], newer), {
    ...{ code: 1, out: 'Encrypted the secrets of 1 endpoint with the key 2027.\n' },
    err: /^error: The secret of \S+ cannot be decrypted: ENCRYPTION_KEYS has no key 2026\.\n$/,
  })
  const rekeyed = await webhooks(['rekey', '--json'], `${newer},${older}`)
  t.same(JSON.parse(rekeyed.out), { key: '2027', rekeyed: 1, unchanged: 1, failed: [] })
  t.match(await webhooks(['add', 'https://example.com', '--principal', '']), {
    code: 1,
    err: 'error: The principal must not be empty.\n',
  })
})

t.test('if an argument is invalid, the command prints one error line', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const config = ['--config', todosConfig]
  const ofBatches = ['add', 'https://example.com', '--operations', 'batch', ...config]
  t.match(await run(['webhooks', ...ofBatches, '--json'], { DATABASE_URL }), {
    code: 0,
    out: /"operations":\s*\[\s*"batch"/,
  })
  for (const [args, sentence] of [
    [['add', 'nonsense'], /^error: The URL must be an absolute URL\.\n$/],
    [['add', 'https://ann:secret@example.com'], /^error: The URL must not contain credentials\.\n$/],
    [
      ['add', 'https://example.com', '--events', 'job.queued'],
      /^error: --events must contain only job\.succeeded, .*, not 'job\.queued'\.\n$/,
    ],
    [
      ['add', 'https://example.com', '--operations', 'todo.crate', ...config],
      /^error: Each name in --operations must be the name of an operation, not todo\.crate\.\n$/,
    ],
    [['rotate', 'x'], /^error: There is no webhook endpoint x\. `accepted webhooks list` shows all endpoints\.\n$/],
    [['remove', 'x'], /^error: There is no webhook endpoint x\. .*\n$/],
  ] as const) {
    const ran = await run(['webhooks', ...args], { DATABASE_URL })
    t.equal(ran.code, 1)
    t.match(ran.err, sentence)
    t.notMatch(ran.err, 'secret')
  }
})

t.test('a key with the scope admin can register webhooks over HTTP; a key without it cannot', async (t) => {
  const databaseUrl = await createDatabase(t)
  const keys = (...args: string[]) => run(['keys', ...args], { DATABASE_URL: databaseUrl })
  const api = await start(t, 'api', { databaseUrl })
  const url = `${api.url}/webhooks`
  t.match(
    await get(url),
    { status: 403, body: { error: { code: 'forbidden' } } },
    'an anonymous request does not have the scope admin',
  )
  const bearer = async (...args: string[]) => {
    const { key } = JSON.parse((await keys('add', ...args, '--json')).out)
    return { authorization: `Bearer ${key}` }
  }
  const ops = await bearer('ops', '--scopes', 'admin')
  const phone = await bearer('phone')
  t.equal((await post(url, { url: 'https://example.com' }, ops)).status, 201)
  t.equal((await get(url, phone)).status, 403)
  // For one second, the API caches the fact that no key exists. Anonymous requests are allowed during that time.
  await until(async () => (await get(url)).status === 401)
  t.match((await keys('list')).out, /ops +ops +admin +all .*\n.* phone +phone +submit,read,cancel +all /)
  t.match(JSON.parse((await keys('list', '--json')).out), [
    { scopes: ['admin'] },
    { scopes: ['submit', 'read', 'cancel'] },
  ])
})
