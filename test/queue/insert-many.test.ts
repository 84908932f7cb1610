import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { insertMany } from '../../src/queue/insert-many.ts'
import { prepareInserts, runInsert } from '../../src/queue/queue-inserts.ts'
import { openJobs } from '../support/jobs.ts'

const input = Type.Object({ word: Type.String() })
const plain = defineOperation({ name: 'word.plain', input })
const special = defineOperation({
  ...{ name: 'word.special', input, priority: 7, timeoutSeconds: 90, heartbeatSeconds: 20, keepSeconds: 100 },
  retry: { limit: 5, delaySeconds: 2, backoff: true, maxDelaySeconds: 30 },
  ...{ group: ({ word }: { word: string }) => word, groupConcurrency: 2 },
})
const unknown = defineOperation({ name: 'word.unknown', input })

t.test('the rows are the same as those of pg-boss', async (t) => {
  const { database, boss, query } = await openJobs(t, [plain, special])
  const entries = () => [
    { id: uuid7(), operation: plain, payload: { word: 'ä"\\' }, principal: 'ann' },
    { id: uuid7(), operation: plain, payload: undefined, principal: 'bob' },
    { id: uuid7(), operation: special, payload: { word: 'x' }, principal: 'ann', groupId: 'x' },
  ]
  const [theirs, ours] = [entries(), entries()]
  await database.kysely.transaction().execute(async (trx) => {
    for (const insert of await prepareInserts(boss, theirs)) await runInsert(trx, insert)
    await insertMany(trx, ours)
  })
  const read = async (written: { id: string }[]) => {
    const rows = await query('select * from accepted_queue.job where id = any($1) order by id', [
      written.map(({ id }) => id),
    ])
    return rows.map(({ id, data, start_after, created_on, keep_until, ...row }) => ({
      ...row,
      ...{ isLinked: data.job === id, payload: data.payload, isDue: start_after.getTime() - created_on.getTime() },
      keptMs: keep_until - start_after,
    }))
  }
  const rows = await read(ours)
  t.equal(rows.length, 3)
  t.same(rows, await read(theirs))
})

t.test('a missing queue is an error before the commit', async (t) => {
  const { database } = await openJobs(t, [plain])
  const entry = { id: uuid7(), operation: unknown, payload: { word: 'x' }, principal: 'ann' }
  await t.rejects(
    database.kysely.transaction().execute((trx) => insertMany(trx, [entry])),
    /The queue 'word\.unknown' is missing/,
  )
})
