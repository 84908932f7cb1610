import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { schema } from './fixtures/operations.ts'

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')

/** Starts an API on a database of its own. */
async function startApi(t: Test) {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  return start(t, 'api', { config, databaseUrl })
}

t.test('an API that is asked to stop answers who waits, and waits for nobody', async (t) => {
  const api = await startApi(t)
  const { body } = await post(`${api.url}/notes`, { text: 'x' })

  // A browser opens some ahead of need.
  const unused = connect(Number(new URL(api.url).port), '127.0.0.1')
  let said = ''
  unused.on('data', (chunk) => {
    said += chunk
  })
  await once(unused, 'connect')
  const poll = get(body.links.self, { prefer: 'wait=55' })
  const stream = await fetch(body.links.events)
  await until(async () => (await get(`${api.url}/metrics`)).body.includes('accepted_watched_jobs 1\n'))

  t.equal(await api.end('SIGTERM'), 0)
  t.match(await poll, { status: 200, body: { status: 'queued' } })
  t.match(await stream.text(), /^retry: 3000\n\nevent: status\n.*\n\nretry: \d+\n\n$/s)
  t.equal(said, '', 'it was not kept until its time was over, which would be told it')
})

for (const [what, half] of [
  ['header section', 'POST /notes HTTP/1.1\r\nHost: x\r\n'],
  ['body', 'POST /notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"t'],
]) {
  t.test(`an API that is asked to stop does not wait for ever for the rest of a ${what}`, async (t) => {
    const api = await startApi(t)
    const client = connect(Number(new URL(api.url).port), '127.0.0.1')
    t.teardown(() => client.destroy())
    let said = ''
    client.on('data', (chunk) => {
      said += chunk
    })
    // Once it has answered the first, it has read of the second what there is.
    client.write(`GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n${half}`)
    await until(() => said.includes('live'))
    t.equal(await api.end('SIGTERM'), 0)
    await until(() => client.destroyed)
    t.match(said, /\r\n\r\n{"status":"live"}HTTP\/1\.1 408 /)
  })
}
