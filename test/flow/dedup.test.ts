import t from 'tap'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { startBoss } from '../../src/queue/boss.ts'
import { prepareQueues } from '../../src/queue/define-operations.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { config, createFixtureDatabase } from './fixtures/database.ts'
import { createNote, performNote } from './fixtures/operations.ts'

for (const operation of [createNote, performNote]) {
  t.test(`two ${operation.name} jobs with the same key have one effect and the same result`, async (t) => {
    const { databaseUrl, database } = await createFixtureDatabase(t)
    const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
    t.teardown(() => boss.stop({ graceful: false }))
    await prepareQueues(database, boss, [operation])

    const job = (principal: string, resource: string) => ({
      ...{ id: uuid7(), operation, payload: { text: 'once' } },
      ...{ principal, idempotencyKey: 'the key', resource },
    })
    const duplicates = [job('ann', '/first'), job('ann', '/second')] as const
    const other = job('bob', '/third')
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, [...duplicates, other]))
    await Promise.all([start(t, 'worker', { config, databaseUrl }), start(t, 'worker', { config, databaseUrl })])

    const jobs = await until(async () => {
      const { rows } = await database.pool.query(
        'select principal, status, resource, result from accepted.job order by id',
      )
      return rows.every(({ status }) => status === 'succeeded') && rows
    })
    const { rows: effects } = await database.pool.query('select job_id from effect')
    t.equal(effects.length, 2, "ann's two jobs have one effect, and bob's job with the same key has another effect")
    t.ok(effects.some(({ job_id }) => job_id === other.id))
    const effective = duplicates.find(({ id }) => effects.some(({ job_id }) => job_id === id))
    t.same(jobs[0], jobs[1], 'both jobs of ann have the same resource and result')
    t.equal(jobs[0].resource, effective?.resource)
    const { rows: keys } = await database.pool.query('select job_id from accepted.processed_key order by principal')
    t.same(keys, [{ job_id: effective?.id }, { job_id: other.id }])
    const { rows: queued } = await database.pool.query("select from accepted_queue.job where name like 'note.%'")
    t.same(queued, [], 'the queue rows of succeeded jobs are deleted')
  })
}
