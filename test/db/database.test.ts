import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { createDatabase } from '../support/database.ts'

t.test('close ends all connections even if Kysely was never used, and it can be called again', async (t) => {
  const database = openDatabase({ url: await createDatabase(t) })
  const { pool } = database
  await pool.query('select 1')
  t.equal(pool.totalCount, 1)
  await Promise.all([database.close(), database.close()])
  t.equal(pool.totalCount, 0)
  await database.close()
})
