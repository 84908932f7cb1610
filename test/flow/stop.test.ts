import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { schema } from './fixtures/operations.ts'

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')

t.test('an API that is asked to stop answers who waits, and waits for nobody', async (t) => {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  const api = await start(t, 'api', { config, databaseUrl })
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
