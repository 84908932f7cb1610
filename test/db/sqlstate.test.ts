import { sql } from 'kysely'
import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { isLostConnection, isOutage } from '../../src/db/sqlstate.ts'
import { freePort } from '../support/program.ts'

t.test('a refused connection to Postgres is an outage; a refused connection to another service is not', async (t) => {
  const database = openDatabase({ url: `postgres://127.0.0.1:${await freePort()}/nowhere` })
  t.teardown(() => database.close())
  for (const attempt of [database.pool.query('select 1'), sql`select 1`.execute(database.kysely)]) {
    const error = await attempt.then(
      () => undefined,
      (error: unknown) => error,
    )
    t.match(error, { code: 'ECONNREFUSED' })
    t.ok(isOutage(error))
    t.notOk(isLostConnection(error), 'no statement was in progress')
  }
  const other = await fetch(`http://127.0.0.1:${await freePort()}`).catch((error) => error)
  t.match(other.cause, { code: 'ECONNREFUSED' })
  t.notOk(isOutage(other))
  t.notOk(isOutage(other.cause))
})
