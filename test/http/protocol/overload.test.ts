import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import { openDatabase } from '../../../src/db/database.ts'
import { get, metricsToken, post } from '../../support/client.ts'
import { createDatabase } from '../../support/database.ts'
import { start } from '../../support/program.ts'
import { until } from '../../support/until.ts'

const config = join(import.meta.dirname, '../fixtures/overload/accepted.config.ts')

t.test(
  'a process whose event loop is too busy refuses new requests with 503, and serves them again afterwards',
  async (t) => {
    const databaseUrl = await createDatabase(t)
    const api = await start(t, 'api', { config, databaseUrl, env: { METRICS_TOKEN: metricsToken } })
    const database = openDatabase({ url: databaseUrl })
    t.teardown(() => database.close())
    const first = await post(`${api.url}/notes`, { text: 'first' })
    t.equal(first.status, 202)
    t.equal((await get(`${api.url}/own`)).status, 200)

    /** Starts or stops work that blocks the event loop of the API for more than a second in each of its turns. */
    const toggleBlocking = () => api.process.send('toggle')
    toggleBlocking()
    // Until the turns are known to be long. These requests need no Postgres, which would take many turns.
    await until(async () => (await get(`${api.url}/own`)).status === 503)
    const key = randomUUID()
    const refused = await post(`${api.url}/notes`, { text: 'refused' }, { 'idempotency-key': key })
    t.equal(refused.status, 503)
    const { rows } = await database.pool.query('select from accepted.idempotency_key where key = $1', [key])
    t.same(rows, [], 'a request that is refused stores nothing')
    t.match(refused.body, { type: '/docs/problems/overloaded', error: { code: 'overloaded' } })
    t.match(refused.headers.get('retry-after'), /^[1-5]$/)
    t.equal(refused.headers.get('x-content-type-options'), 'nosniff')
    const [read, own, events, live, ready, metrics] = await Promise.all([
      get(first.body.links.self),
      get(`${api.url}/own`),
      get(first.body.links.events, { accept: 'text/event-stream' }),
      get(`${api.url}/health/live`),
      get(`${api.url}/health/ready`),
      get(`${api.url}/metrics`, { authorization: `Bearer ${metricsToken}` }),
    ])
    t.match([read.status, own.status], [503, 503])
    t.match(events, { status: 200, body: /^retry: [1-5]000\n\n$/ }, 'an EventSource is asked to connect again later')
    t.match([live.status, metrics.status], [200, 200])
    t.not(ready.body.error?.code, 'overloaded')

    toggleBlocking()
    await until(async () => (await get(first.body.links.self)).status === 200)
    t.equal((await post(`${api.url}/notes`, { text: 'last' })).status, 202)
    t.equal((await get(`${api.url}/own`)).status, 200)
    t.match(api.output(), /"turnMs":\d+.*The event loop is too busy; answering 503/)
  },
)
