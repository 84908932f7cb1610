import { existsSync, readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { createDatabase } from '../support/database.ts'
import { startInterceptor } from '../support/proxy.ts'

/** A pool on a way to Postgres whose connections can fall silent, with three that nobody uses. */
async function openIdle(t: Test) {
  const silent = new Set<object>()
  const there = new Set<object>()
  const url = await startInterceptor(t, await createDatabase(t), () => {
    const connection = {}
    there.add(connection)
    const pass = () => (silent.has(connection) ? 'silence' : 'pass')
    return { there: pass, back: pass }
  })
  const errors: Error[] = []
  const database = openDatabase({ url, onIdleError: (error) => errors.push(error) })
  t.teardown(() => database.close())
  const clients = await Promise.all([1, 2, 3].map(() => database.pool.connect()))
  for (const client of clients) client.release()
  t.equal(database.pool.idleCount, 3)
  return { ...database, clients, errors, silence: () => there.forEach((connection) => void silent.add(connection)) }
}

t.test('when one connection is dead, those that nobody uses are not handed out any more', async (t) => {
  const { pool, errors, silence } = await openIdle(t)
  silence()
  await t.rejects(pool.query('select'), { message: /nothing was heard from Postgres/ })
  t.equal((await Promise.all([1, 2, 3].map((n) => pool.query('select $1::int as n', [n])))).length, 3)
  t.equal(errors.length, 2)
})

const table = '/proc/net/tcp'

t.test(
  'of one that nobody uses, TCP asks every ten seconds whether it is alive',
  { skip: !existsSync(table) && 'only Linux tells' },
  async (t) => {
    const { clients } = await openIdle(t)
    for (const client of clients) {
      const { localPort = 0 } = (client as unknown as { connection: { stream: Socket } }).connection.stream
      const [timer, due] = timerOf(localPort)
      // 2: it is for the next of these questions. In hundredths of a second.
      t.equal(timer, 2)
      t.ok(due <= 1_000, `due in ${due}`)
    }
  },
)

/** Of a socket, which timer runs, and until when. */
function timerOf(port: number): [kind: number, due: number] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const fields = readFileSync(table, 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  // 01: it is established. Others that had the same port may still be closing.
  const found = fields.find(([, local, , state]) => local?.endsWith(suffix) && state === '01')
  const [kind, due] = found?.[5]?.split(':') ?? []
  return [Number(kind), Number.parseInt(due ?? '', 16)]
}
