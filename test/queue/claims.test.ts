import { defineOperation } from 'accepted'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { Claims } from '../../src/queue/claims.ts'
import { beginTransaction } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  const { database, boss } = jobs
  /** Adds jobs that were created `secondsAgo` seconds ago, one millisecond after each other. */
  const add = async (count: number, { secondsAgo = 0, priority = 0 } = {}) => {
    const all = Array.from({ length: count }, () => ({
      ...{ id: uuid7(), operation: note, payload: {}, principal: 'ann', priority },
    }))
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, all))
    const ids = all.map(({ id }) => id)
    await jobs.query(
      `update accepted_queue.job
      set created_on = now() - make_interval(secs => $2::float8 - 0.001 * array_position($1, id))
      where id = any($1::uuid[])`,
      [ids, secondsAgo],
    )
    return ids
  }
  return { ...jobs, add, claims: new Claims(database, boss, note) }
}

const idsOf = (claims: readonly { jobId: string }[]) => claims.map(({ jobId }) => jobId)

t.test('concurrent claims take each job once, ordered by priority and then by age', async (t) => {
  const { add, claims, database, boss } = await setUp(t)
  const late = await add(10, { secondsAgo: 10 })
  const early = await add(10, { secondsAgo: 20 })
  const high = await add(5, { priority: 1 })
  t.same(idsOf(await claims.claim(5)).toSorted(), high.toSorted())
  t.same(idsOf(await new Claims(database, boss, note).claim(5)).toSorted(), early.slice(0, 5).toSorted())
  const others = Array.from({ length: 4 }, () => new Claims(database, boss, note).claim(5))
  const claimed = (await Promise.all(others)).flatMap(idsOf)
  t.same(claimed.toSorted(), [...early.slice(5), ...late].toSorted())
})

t.test('jobs of a higher priority are claimed before older jobs of a lower priority', async (t) => {
  const { add, claims } = await setUp(t)
  const old = await add(20, { secondsAgo: 3600 })
  const high = await add(20, { priority: 1 })
  const claimed: string[] = []
  while (claimed.length < old.length + high.length) {
    const { promise: mayFindMore, resolve: onMore } = Promise.withResolvers<void>()
    const batch = await claims.claim(10, onMore)
    claimed.push(...idsOf(batch))
    if (batch.length === 0) await mayFindMore
  }
  t.same(claimed.slice(0, 20).toSorted(), high.toSorted())
  t.same(claimed.slice(20).toSorted(), old.toSorted())
})

t.test('rescan makes the next claim find jobs that are older than those of the last claim', async (t) => {
  const { add, claims } = await setUp(t)
  await add(1)
  let [now, elapsed] = [0, 1_000]
  t.intercept(performance, 'now', { value: () => (now += elapsed) })
  // The claim seems slow, so the next ones may not scan the whole queue for a while.
  t.equal((await claims.claim(10)).length, 1)
  elapsed = 0
  const old = await add(1, { secondsAgo: 3600 })
  t.same(await claims.claim(10), [])
  claims.rescan()
  t.same(idsOf(await claims.claim(10)), old)
})

t.test('a released job is claimed again in the same attempt, and a rescued job in the next attempt', async (t) => {
  const { add, claims, database } = await setUp(t)
  await add(1)
  const [first] = await claims.claim(1)
  t.match(first, { attempt: 1 })
  await database.kysely.transaction().execute((trx) => claims.release(trx, first ? [first] : [], 0))
  const [second] = await claims.claim(1)
  t.match(second, { attempt: 1 })
  await database.kysely
    .transaction()
    .execute((trx) => claims.rescue(trx, second ? [second] : [], { isQuarantined: false }))
  t.match(await claims.claim(1), [{ attempt: 2 }])
})

t.test('a claim for perform sets its jobs to running, and leaves those that it must not or cannot begin', async (t) => {
  const { add, read, query, database, boss } = await setUp(t)
  const [one, two, canceled, locked, ended, foreign] = (await add(6)) as [
    string,
    string,
    string,
    string,
    string,
    string,
  ]
  const taken = await add(1, { priority: -1 })
  await query('update accepted.job set cancel_requested = true where id = $1', [canceled])
  await query("update accepted.job set status = 'canceled', ended_at = now() where id = $1", [ended])
  await query("update accepted_queue.job set data = data - 'job' where id = $1", [foreign])
  await query("update accepted.job set idempotency_key = 'k' where id = $1", [taken[0]])
  await query(
    "insert into accepted.processed_key (operation, principal, key, job_id) values ('note.create', 'ann', 'k', $1)",
    [one],
  )
  await beginTransaction(t, database, `select from accepted.job where id = '${locked}' for update`)
  const workerId = uuid7()
  const claims = await new Claims(database, boss, note, workerId).claim(10)
  t.equal(claims.length, 7)
  const begunIds = claims.flatMap(({ begun }) => begun?.id ?? [])
  t.same(begunIds.toSorted(), [one, two, ...taken].toSorted())
  for (const { jobId, begun, attempt } of claims) {
    if (!begun) continue
    t.match(await read(jobId), { status: 'running', attempt: 1, worker_id: workerId, sequence: '2' })
    t.match(begun, { id: jobId, principal: 'ann', attempt, max_attempts: 4, percent: null })
    t.equal(begun.is_key_taken, jobId === taken[0])
  }
  for (const id of [canceled, locked, foreign])
    t.match(await read(id), { status: 'queued', attempt: 0, worker_id: null })
})

t.test('while an old snapshot is held, a claim from the cursor does not read the rows of earlier claims', async (t) => {
  const { add, query, database } = await setUp(t)
  await add(3_000, { secondsAgo: 3_600 })
  const holder = await beginTransaction(t, database, 'set transaction isolation level repeatable read')
  await holder.client.query('select from accepted_queue.job limit 1')
  const client = new pg.Client({ connectionString: database.options.url })
  await client.connect()
  t.teardown(() => client.end())
  await client.query("select from accepted.claim('note.create', 2000, '-infinity')")
  const countReadEntries = async () => {
    await client.query('select pg_stat_force_next_flush()')
    const [row] = await query("select idx_tup_read from pg_stat_user_indexes where indexrelname = 'job_common_i11'")
    return Number(row.idx_tup_read)
  }
  const claimFrom = async (from: string) => {
    const before = await countReadEntries()
    const { rows } = await client.query("select floor from accepted.claim('note.create', 100, $1)", [from])
    t.equal(rows.length, 100)
    return { floor: rows[0].floor, readEntries: (await countReadEntries()) - before }
  }
  const fromStart = await claimFrom('-infinity')
  t.ok(fromStart.readEntries >= 2_100, `a claim from the start read ${fromStart.readEntries} index entries`)
  const fromCursor = await claimFrom(fromStart.floor)
  t.ok(fromCursor.readEntries <= 300, `a claim from the cursor read ${fromCursor.readEntries} index entries`)
})
