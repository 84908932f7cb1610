import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import PostalMime, { type Email } from 'postal-mime'
import { SMTPServer } from 'smtp-server'
import t, { type Test } from 'tap'
import { ended, get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { freePort, start } from '../support/program.ts'

const password = 'correct-horse'

interface Mailbox {
  url: string
  received: Email[]
}

/** Starts a real SMTP server that requires a login and permanently rejects the mailbox `nobody`. */
async function startSmtp(t: Test): Promise<Mailbox> {
  const received: Email[] = []
  const server = new SMTPServer({
    authOptional: false,
    allowInsecureAuth: true,
    disabledCommands: ['STARTTLS'],
    onAuth: (auth, _session, done) =>
      auth.password === password ? done(null, { user: auth.username }) : done(new Error('wrong password')),
    onRcptTo: ({ address }, _session, done) =>
      done(address.startsWith('nobody@') ? Object.assign(new Error('no such mailbox'), { responseCode: 550 }) : null),
    onData: async (stream, _session, done) => {
      received.push(await PostalMime.parse(await buffer(stream)))
      done()
    },
  })
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  t.teardown(() => new Promise<void>((resolve) => server.close(resolve)))
  const { port } = server.server.address() as { port: number }
  return { url: `smtp://todos:${password}@127.0.0.1:${port}`, received }
}

async function setUp(t: Test, env: NodeJS.ProcessEnv) {
  const databaseUrl = await createDatabase(t)
  const [api] = await Promise.all([start(t, 'api', { databaseUrl }), start(t, 'worker', { databaseUrl, env })])
  const { body } = await post(`${api.url}/todos`, { title: 'Water the flowers' })
  const todo = await ended(body.links.self)
  const remind = (email: string) => post(`${todo.resourceLocation}/reminders`, { email })
  return { api, databaseUrl, remind }
}

t.test('a reminder is delivered to the SMTP server', async (t) => {
  const { url, received } = await startSmtp(t)
  const { remind } = await setUp(t, { SMTP_URL: url })
  const { status, body } = await remind('ann@example.com')
  t.equal(status, 202)
  const messageId = `<${body.id}@todos.example.com>`
  t.match(await ended(body.links.self), { status: 'succeeded', result: { messageId } })
  const result = await get(body.links.result)
  t.equal(result.status, 200, 'the result URL of a job without a resource returns the result')
  t.same(result.body, { messageId })
  t.equal(received.length, 1)
  t.match(received[0], { messageId, subject: 'Reminder: Water the flowers', to: [{ address: 'ann@example.com' }] })
})

t.test('without an SMTP server, a reminder is written to an .eml file', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'accepted-mail-'))
  t.teardown(() => rm(dataDir, { recursive: true }))
  const { remind } = await setUp(t, { DATA_DIR: dataDir, SMTP_URL: '' })
  const { body } = await remind('ann@example.com')
  t.match(await ended(body.links.self), { status: 'succeeded' })
  t.same(await readdir(join(dataDir, 'mail')), [`${body.id}@todos.example.com.eml`])
  t.match(await readFile(join(dataDir, 'mail', `${body.id}@todos.example.com.eml`), 'utf8'), 'To: ann@example.com')
})

t.test(
  'while the SMTP server is down, a reminder is retried and then fails, and the error contains no secrets',
  async (t) => {
    const { remind } = await setUp(t, { SMTP_URL: `smtp://todos:${password}@127.0.0.1:${await freePort()}` })
    const { body } = await remind('ann@example.com')
    const monitor = await ended(body.links.self)
    t.match(monitor, {
      status: 'failed',
      attempt: 3,
      maxAttempts: 3,
      error: { code: 'handler-error', message: /^The job failed\. Its id is / },
    })
    const result = await get(body.links.result)
    t.equal(result.status, 424)
    t.match(result.headers.get('content-type'), 'application/problem+json')
    t.match(result.body, { error: monitor.error, job: { id: body.id, status: 'failed' } })
    t.equal(
      result.body.status,
      undefined,
      'the body has no `status`, because a polling client would take it for the status of the job',
    )
    t.notMatch(JSON.stringify([monitor, result.body]), password)
  },
)

t.test('the error after a rejected login does not contain the password', async (t) => {
  const { url } = await startSmtp(t)
  const { remind } = await setUp(t, { SMTP_URL: url.replace(password, 'wrong-secret') })
  const { body } = await remind('ann@example.com')
  const monitor = await ended(body.links.self)
  t.equal(monitor.status, 'failed')
  t.notMatch(JSON.stringify(monitor), 'wrong-secret')
})

t.test('a reminder to an address that the SMTP server rejects fails without a retry', async (t) => {
  const { url } = await startSmtp(t)
  const { remind } = await setUp(t, { SMTP_URL: url })
  const { body } = await remind('nobody@example.com')
  t.match(await ended(body.links.self), {
    status: 'failed',
    attempt: 1,
    error: { code: 'smtp-rejected', message: /550/ },
  })
})

t.test('a reminder for a todo that does not exist is refused, and its idempotency key stays unused', async (t) => {
  const { api } = await setUp(t, {})
  const url = `${api.url}/todos/0199a0a0-0000-7000-8000-000000000000/reminders`
  const { status, body } = await post(url, { email: 'ann@example.com' }, { 'idempotency-key': 'k' })
  t.equal(status, 404)
  t.match(body, { error: { code: 'todo-not-found' } })
  const { body: todos } = await get(`${api.url}/todos`)
  const again = await post(
    `${api.url}/todos/${todos[0].id}/reminders`,
    { email: 'a@example.com' },
    { 'idempotency-key': 'k' },
  )
  t.equal(again.status, 202)
})
