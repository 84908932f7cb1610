import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { ended, get, post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { start } from '../support/program.ts'
import { startReceiver } from '../support/receiver.ts'
import { until } from '../support/until.ts'
import { config, createFixtureDatabase } from './fixtures/database.ts'

async function setUp(t: Test) {
  const { databaseUrl, database } = await createFixtureDatabase(t)
  const api = await start(t, 'api', { config, databaseUrl })
  const receiver = await startReceiver(t)
  await run(['webhooks', 'add', receiver.url], { DATABASE_URL: databaseUrl })
  const env = { PUBLIC_URL: api.url, WEBHOOK_ALLOW: '127.0.0.0/8' }
  const worker = await start(t, 'worker', { config, databaseUrl, env })
  const submit = async (text: string) => (await post(`${api.url}/notes/performed`, { text })).body
  return { api, worker, database, receiver, submit }
}

/** Reads what a browser or another client receives, as text. */
async function read(url: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(url, { headers, redirect: 'manual' })
  return [...response.headers.values(), await response.text()].join('\n')
}

/** Reads the first events of the stream of all jobs. */
async function readStream(url: string, until: string): Promise<string> {
  const controller = new AbortController()
  const response = await fetch(url, { headers: { accept: 'text/event-stream' }, signal: controller.signal })
  let text = ''
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += chunk
    if (text.includes(until)) break
  }
  controller.abort()
  return text
}

async function readSocket(url: string, id: string): Promise<string> {
  const socket = new WebSocket(url.replace('http', 'ws'), 'cloudevents.json')
  const frames: string[] = []
  socket.on('message', (data) => frames.push(String(data)))
  socket.on('open', () => socket.send(JSON.stringify({ subscribe: [id] })))
  await until(() => frames.some((frame) => frame.includes('handler-error')))
  socket.close()
  return frames.join('\n')
}

t.test('clients never see the text of an error that a handler did not declare', async (t) => {
  const { api, worker, database, receiver, submit } = await setUp(t)
  const text = 'relation "leaked" on db-7.internal at /srv/leaked'
  const { id, links } = await submit(`throw: ${text}`)
  const { error } = await ended(links.self)
  t.same(error, { code: 'handler-error', message: `The job failed. Its id is ${id}` })
  const [delivery] = await receiver.arrived(1)
  t.same(JSON.parse(`${delivery?.body}`).data.error, error)
  const result = await get(links.result)
  t.equal(result.status, 424)
  t.same([result.body.error, result.body.detail, result.body.job.error], [error, error.message, error])
  const seen = {
    monitor: await read(links.self),
    page: await read(links.self, { accept: 'text/html' }),
    result: await read(links.result),
    list: await read(`${api.url}/jobs`),
    events: await read(links.events, { accept: 'text/event-stream' }),
    stream: await readStream(`${api.url}/events`, 'handler-error'),
    socket: await readSocket(`${api.url}/events`, id),
    cancel: JSON.stringify((await post(links.cancel, {})).body),
    webhook: `${delivery?.body}`,
  }
  for (const [name, content] of Object.entries(seen)) {
    t.match(content, name === 'cancel' ? 'job-ended' : 'The job failed', name)
    t.notMatch(content, /leaked|db-7/, name)
  }
  // The operator still finds the text.
  const { rows } = await database.pool.query('select error from accepted.job where id = $1', [id])
  t.same(rows, [{ error: { code: 'handler-error', message: text } }])
  t.match(worker.output(), 'db-7.internal')
})

t.test('an error that is its own cause or cannot be read fails only its job, and the worker goes on', async (t) => {
  const { api, submit } = await setUp(t)
  const error = (id: string) => ({ code: 'handler-error', message: `The job failed. Its id is ${id}` })
  for (const text of ['throw cyclic: leaked', 'throw unreadable']) {
    const { id, links } = await submit(text)
    t.same((await ended(links.self)).error, error(id), text)
  }
  const { links } = await submit('hello')
  t.equal((await ended(links.self)).status, 'succeeded')
  t.notMatch((await get(`${api.url}/jobs`)).body, 'leaked')
})

t.test('clients see a declared error, whatever its code', async (t) => {
  const { submit } = await setUp(t)
  const { links } = await submit('declare: The printer is out of paper')
  const error = { code: 'handler-error', message: 'The printer is out of paper' }
  t.same((await ended(links.self)).error, error)
  t.match(await get(links.result), { status: 424, body: { error, detail: error.message } })
})
