import { defineOperation } from 'accepted'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { createClaims } from '../../worker/claim.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  const { database, boss } = jobs
  /** Adds some, made one after another so many seconds ago. */
  const add = async (count: number, { secondsAgo = 0, priority = 0 } = {}) => {
    const all = Array.from({ length: count }, () => ({
      ...{ id: uuid7(), operation: note, payload: {}, principal: 'ann', priority },
    }))
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, all))
    const ids = all.map(({ id }) => id)
    await jobs.query(
      `update pgboss.job set created_on = now() - make_interval(secs => $2::float8 - 0.001 * array_position($1, id))
      where id = any($1::uuid[])`,
      [ids, secondsAgo],
    )
    return ids
  }
  return { ...jobs, add, claims: createClaims(database, boss, note) }
}

const idsOf = (claims: readonly { jobId: string }[]) => claims.map(({ jobId }) => jobId)

t.test('the highest priority first, of one priority the oldest, and each once however many claim', async (t) => {
  const { add, claims, database, boss } = await setUp(t)
  const late = await add(10, { secondsAgo: 10 })
  const early = await add(10, { secondsAgo: 20 })
  const high = await add(5, { priority: 1 })
  t.same(idsOf(await claims.claim(5)).toSorted(), high.toSorted())
  t.same(idsOf(await createClaims(database, boss, note).claim(5)).toSorted(), early.slice(0, 5).toSorted())
  const others = Array.from({ length: 4 }, () => createClaims(database, boss, note).claim(5))
  const claimed = (await Promise.all(others)).flatMap(idsOf)
  t.same(claimed.toSorted(), [...early.slice(5), ...late].toSorted())
})

t.test('after many of a higher priority, those that have waited for longer are claimed as well', async (t) => {
  const { add, claims } = await setUp(t)
  const old = await add(20, { secondsAgo: 3600 })
  const high = await add(20, { priority: 1 })
  const claimed: string[] = []
  while (claimed.length < old.length + high.length) {
    const { promise, resolve } = Promise.withResolvers<void>()
    const some = await claims.claim(10, resolve)
    claimed.push(...idsOf(some))
    if (some.length === 0) await promise
  }
  t.same(claimed.slice(0, 20).toSorted(), high.toSorted())
  t.same(claimed.slice(20).toSorted(), old.toSorted())
})

t.test('one that was handed back is claimed in the same attempt, one that was taken back in the next', async (t) => {
  const { add, claims, database } = await setUp(t)
  await add(1)
  const [first] = await claims.claim(1)
  t.match(first, { attempt: 1 })
  await database.kysely.transaction().execute((trx) => claims.release(trx, first ? [first] : [], 0))
  const [again] = await claims.claim(1)
  t.match(again, { attempt: 1 })
  await database.kysely.transaction().execute((trx) => claims.takeBack(trx, again ? [again] : [], false))
  t.match(await claims.claim(1), [{ attempt: 2 }])
})

t.test('what was claimed is not read again while somebody holds an old snapshot', async (t) => {
  const { add, query, database } = await setUp(t)
  await add(3_000, { secondsAgo: 3_600 })
  const holder = new pg.Client({ connectionString: database.options.url })
  await holder.connect()
  t.teardown(() => holder.end())
  await holder.query('begin isolation level repeatable read')
  await holder.query('select from pgboss.job limit 1')
  const client = new pg.Client({ connectionString: database.options.url })
  await client.connect()
  t.teardown(() => client.end())
  await client.query("select from accepted.claim('note.create', 2000, '-infinity')")
  const read = async () => {
    await client.query('select pg_stat_force_next_flush()')
    const [row] = await query("select idx_tup_read from pg_stat_user_indexes where indexrelname = 'job_common_i11'")
    return Number(row.idx_tup_read)
  }
  const claimFrom = async (from: string) => {
    const before = await read()
    const { rows } = await client.query("select floor from accepted.claim('note.create', 100, $1)", [from])
    t.equal(rows.length, 100)
    return { floor: rows[0].floor, read: (await read()) - before }
  }
  const whole = await claimFrom('-infinity')
  t.ok(whole.read >= 2_100, `${whole.read} entries were read`)
  const further = await claimFrom(whole.floor)
  t.ok(further.read <= 300, `${further.read} entries were read`)
})
