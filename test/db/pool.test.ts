import { sql } from 'kysely'
import t from 'tap'
import { commitStatement, pipeline } from '../../src/db/pipeline.ts'
import { until } from '../support/until.ts'
import { insertWord, openWatched } from './support.ts'

t.test(
  'when a client is released during a transaction, the transaction is rolled back before the next statement',
  async (t) => {
    const { database, words } = await openWatched(t)
    const { pool } = database
    for (const statements of [['begin'], ['begin', "insert into word values ('a')"]]) {
      const client = await pool.connect()
      for (const text of statements) await client.query(text)
      client.release()
      await pool.query("insert into word values ('b')")
      t.same(await words(), ['b'])
      await pool.query('delete from word')
    }
  },
)

t.test('terminateActive ends a transaction whose statement is running', async (t) => {
  const { database, backendState } = await openWatched(t)
  const work = database.kysely
    .transaction()
    .execute((trx) =>
      pipeline(trx, (trx) => [sql`select pg_sleep(60)`.execute(trx), insertWord(trx, 'a'), commitStatement(trx)]),
    )
  const rejected = t.rejects(work, /Connection terminated|Client was closed/)
  await until(async () => (await backendState()) === 'active')
  database.terminateActive()
  await rejected
})
