import { join } from 'node:path'
import t from 'tap'
import { v7 as uuid7 } from 'uuid'
import { prepareQueues, startBoss } from '../../src/db/boss.ts'
import { openDatabase } from '../../src/db/database.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { createNote, performNote, schema } from './fixtures/operations.ts'

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')

for (const operation of [createNote, performNote]) {
  t.test(`two jobs of ${operation.name} with one key: one effect, and both end like the first`, async (t) => {
    const databaseUrl = await createDatabase(t)
    const database = openDatabase({ url: databaseUrl })
    t.teardown(() => database.close())
    await database.pool.query(schema)
    const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
    t.teardown(() => boss.stop({ graceful: false }))
    await prepareQueues(boss, [operation])

    const job = (principal: string, resource: string) => ({
      ...{ id: uuid7(), operation, payload: { text: 'once' } },
      ...{ principal, idempotencyKey: 'the key', resource },
    })
    const twice = [job('ann', '/first'), job('ann', '/second')] as const
    const other = job('bob', '/third')
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, [...twice, other]))
    await Promise.all([start(t, 'worker', { config, databaseUrl }), start(t, 'worker', { config, databaseUrl })])

    const jobs = await until(async () => {
      const { rows } = await database.pool.query(
        'select principal, state, resource, result from accepted.job order by id',
      )
      return rows.every(({ state }) => state === 'succeeded') && rows
    })
    const { rows: effects } = await database.pool.query('select job_id from effect')
    t.equal(effects.length, 2, "one of ann's two, and bob's, who used the same key")
    t.ok(effects.some(({ job_id }) => job_id === other.id))
    const effective = twice.find(({ id }) => effects.some(({ job_id }) => job_id === id))
    t.same(jobs[0], jobs[1], 'the duplicate has the resource and the result of the other')
    t.equal(jobs[0].resource, effective?.resource)
    const { rows: keys } = await database.pool.query('select job_id from accepted.processed_key order by principal')
    t.same(keys, [{ job_id: effective?.id }, { job_id: other.id }])
    const { rows: queue } = await database.pool.query(
      "select distinct state::text from pgboss.job where name like 'note.%'",
    )
    t.same(queue, [{ state: 'completed' }])
  })
}
