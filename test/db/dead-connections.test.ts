import { existsSync, readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { isLostConnection } from '../../src/db/sqlstate.ts'
import { createDatabase } from '../support/database.ts'
import { startInterceptor } from '../support/proxy.ts'
import { until } from '../support/until.ts'

// The tests mostly wait for checks that run every few seconds, so the tests run in parallel.
t.jobs = 3

/** Opens three idle connections through a proxy. The proxy can silence the connections. */
async function openIdle(t: Test) {
  const connections = new Set<object>()
  const silenced = new Set<object>()
  const url = await startInterceptor(t, await createDatabase(t), () => {
    const connection = {}
    connections.add(connection)
    const decide = () => (silenced.has(connection) ? 'silence' : 'pass')
    return { toServer: decide, toClient: decide }
  })
  const errors: Error[] = []
  const database = openDatabase({ url, onIdleError: (error) => errors.push(error) })
  t.teardown(() => database.close())
  const clients = await Promise.all([1, 2, 3].map(() => database.pool.connect()))
  for (const client of clients) client.release()
  t.equal(database.pool.idleCount, 3)
  /** Silences the connections that are open now. Later connections work. */
  const silenceAll = () => {
    for (const connection of connections) silenced.add(connection)
  }
  return { ...database, clients, errors, silenceAll }
}

t.test('when a connection is dead, the idle connections are replaced too', async (t) => {
  const { pool, errors, silenceAll } = await openIdle(t)
  silenceAll()
  await t.rejects(pool.query('select'), { message: /Postgres is not working on the statement/ })
  t.equal((await Promise.all([1, 2, 3].map((n) => pool.query('select $1::int as n', [n])))).length, 3)
  t.equal(errors.length, 2)
})

t.test('a silent connection is closed, but a connection on which Postgres is working stays open', async (t) => {
  const url = await startInterceptor(t, await createDatabase(t), () => ({
    toServer: (chunk) => (chunk.includes('to be silenced') ? 'silence' : 'pass'),
  }))
  const { pool, close } = openDatabase({ url, poolSize: 2 })
  t.teardown(close)
  // The pool checks a statement after 10 to 15 seconds.
  const working = pool.query('select pg_sleep(16)')
  const error = await pool.query("select 'to be silenced'").catch((error) => error)
  t.ok(isLostConnection(error), 'the error counts as a lost connection, so the transaction is retried')
  t.equal((await working).rows.length, 1)
})

const tcpTable = '/proc/net/tcp'

t.test(
  'TCP keep-alive probes idle connections after ten seconds',
  { skip: !existsSync(tcpTable) && 'only Linux shows socket timers' },
  async (t) => {
    const { clients } = await openIdle(t)
    for (const client of clients) {
      const { localPort = 0 } = (client as unknown as { connection: { stream: Socket } }).connection.stream
      // Until Postgres has acknowledged the last statement, another timer runs.
      const [, dueIn] = await until(() => {
        const [kind, dueIn] = timerOf(localPort)
        return kind === 2 && [kind, dueIn]
      })
      t.ok(dueIn <= 1_000, `the timer expires in ${dueIn} hundredths of a second`)
    }
  },
)

/** Reads which timer runs for a socket, and the time until it expires in hundredths of a second (proc_net_tcp). */
function timerOf(port: number): [kind: number, dueIn: number] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const established = '01'
  const rows = readFileSync(tcpTable, 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  // A closing socket may still have the same port.
  const found = rows.find(([, local, , state]) => local?.endsWith(suffix) && state === established)
  const [kind, dueIn] = found?.[5]?.split(':') ?? []
  return [Number(kind), Number.parseInt(dueIn ?? '', 16)]
}
