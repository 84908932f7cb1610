import { defineOperation, type Operation } from 'accepted'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { openDatabase } from '../../src/db/database.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { insertBatch } from '../../src/jobs/enqueue-batch.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { Claims } from '../../src/queue/claims.ts'
import { beginTransaction } from '../support/database.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })
const unfair = defineOperation({ name: 'note.unfair', input: Type.Object({}), fair: false })

async function setUp(t: Test) {
  const jobs = await openJobs(t, [note, unfair])
  const { database, boss, query } = jobs
  const principals = new Map<string, string>()
  const add = async (principal: string, count: number, { operation = note as Operation, priority = 0 } = {}) => {
    const all = Array.from({ length: count }, () => ({ id: uuid7(), operation, payload: {}, principal, priority }))
    await database.kysely.transaction().execute((trx) => enqueue(boss, trx, all))
    for (const { id } of all) principals.set(id, principal)
    return all.map(({ id }) => id)
  }
  /** Claims jobs. Returns how many of each principal. */
  const claim = async (claims: Claims, limit: number) => {
    const claimed = await claims.claim(limit)
    const counts: Record<string, number> = {}
    for (const { jobId } of claimed) {
      const principal = principals.get(jobId) as string
      counts[principal] = (counts[principal] ?? 0) + 1
    }
    return counts
  }
  const open = (operation: Operation = note) => new Claims(database, boss, operation)
  return { ...jobs, query, add, claim, open }
}

/** Adds counts of jobs by principal. */
const sum = (all: readonly Record<string, number>[]) => {
  const total: Record<string, number> = {}
  for (const [principal, count] of all.flatMap((counts) => Object.entries(counts))) {
    total[principal] = (total[principal] ?? 0) + count
  }
  return total
}

for (const workerId of [undefined, uuid7()]) {
  const kind = workerId ? ' that begin their jobs' : ''
  t.test(`after the first of the claims${kind}, a long backlog of one principal does not delay others`, async (t) => {
    const { add, claim, boss, database } = await setUp(t)
    await add('heavy', 1_000)
    for (let number = 98; number >= 0; number--) await add(`light ${number}`, 1)
    const claims = new Claims(database, boss, note, workerId)
    t.same(await claim(claims, 10), { heavy: 10 }, 'the first claim takes the oldest jobs')
    const turns = []
    for (let count = 0; count < 10; count++) turns.push(await claim(claims, 10))
    const { heavy, ...lights } = sum(turns)
    t.equal(Object.keys(lights).length, 99)
    t.equal(heavy, 1)
  })
}

t.test('while one principal is alone, most claims take the oldest jobs, and others still get their turn', async (t) => {
  const { add, claim, query, database, boss } = await setUp(t)
  const [{ name }] = await query('select current_database() as name')
  await query(`alter database ${name} set track_functions = 'pl'`)
  const counting = openDatabase({ ...database.options, poolSize: 1 })
  t.teardown(() => counting.close())
  const turns = async (): Promise<number> => {
    await counting.pool.query('select pg_stat_force_next_flush()')
    const text = `select coalesce(sum(calls), 0)::int as calls from pg_stat_user_functions where funcname = 'claim_in_turn'`
    return (await counting.pool.query(text)).rows[0].calls
  }
  await add('heavy', 1_000)
  for (const limit of [1, 10]) {
    const claims = new Claims(counting, boss, note)
    const before = await turns()
    for (let count = 0; count < 21; count++) await claim(claims, limit)
    t.equal((await turns()) - before, limit === 1 ? 6 : 5, `of 21 claims of ${limit}`)
    await add(`light ${limit}`, 1)
    const next = []
    for (let count = 0; count < 5; count++) next.push(await claim(claims, limit))
    t.equal(sum(next)[`light ${limit}`], 1)
  }
})

t.test(
  'principals with many jobs share each claim evenly, and one with few jobs leaves its share to them',
  async (t) => {
    const { add, claim, open } = await setUp(t)
    for (const principal of ['a', 'b', 'c']) await add(principal, 100)
    await add('d', 2)
    const claims = open()
    await claim(claims, 1)
    t.match(await claim(claims, 40), { a: 13, b: 13, c: 12, d: 2 })
    const { a = 0, b = 0, c = 0 } = sum([await claim(claims, 10), await claim(claims, 10), await claim(claims, 10)])
    t.equal(a + b + c, 30)
    for (const count of [a, b, c]) t.ok(Math.abs(count - 10) <= 1, `${count} of 30 jobs`)
  },
)

t.test('several workers together take turns, and each job is claimed once', async (t) => {
  const { add, open } = await setUp(t)
  const heavy = await add('heavy', 300)
  const lights: string[] = []
  for (let number = 0; number < 60; number++) lights.push(...(await add(`light ${number}`, 1)))
  const workers = [open(), open(), open()]
  for (const worker of workers) t.equal((await worker.claim(10)).length, 10)
  const claimed: string[] = []
  for (let count = 0; count < 4; count++) {
    const rounds = await Promise.all(workers.map((worker) => worker.claim(10)))
    claimed.push(...rounds.flat().map(({ jobId }) => jobId))
  }
  t.equal(new Set(claimed).size, 120)
  t.same(
    lights.filter((id) => !claimed.includes(id)),
    [],
  )
  t.ok(claimed.every((id) => heavy.includes(id) || lights.includes(id)))
})

t.test('when another worker is claiming the next job of every principal, later jobs are claimed', async (t) => {
  const { add, claim, open, database } = await setUp(t)
  for (const principal of ['a', 'b', 'c', 'd']) await add(principal, 3)
  const claims = open()
  t.same(await claim(claims, 2), { a: 2 })
  const other = await beginTransaction(
    t,
    database,
    `select from accepted_queue.job where singleton_key in ('b', 'c') and state = 'created' for update`,
  )
  t.same(await claim(claims, 2), { a: 1, d: 1 })
  t.same(await claim(claims, 2), { d: 2 })
  await other.commit()
  t.same(await claim(claims, 6), { b: 3, c: 3 })
})

t.test('turns are taken among jobs of one priority', async (t) => {
  const { add, claim, open } = await setUp(t)
  await add('light', 1)
  await add('medium', 20, { priority: 5 })
  await add('heavy', 30, { priority: 5 })
  const claims = open()
  t.same(await claim(claims, 2), { medium: 2 })
  t.same(await claim(claims, 20), { heavy: 10, medium: 10 })
  await add('late', 1, { priority: 9 })
  t.same(await claim(claims, 9), { heavy: 4, medium: 4, late: 1 })
  t.same(await claim(claims, 25), { heavy: 16, medium: 4, light: 1 })
})

t.test('without `fair`, the oldest job comes first', async (t) => {
  const { add, claim, open, query } = await setUp(t)
  await add('heavy', 30, { operation: unfair })
  await add('light', 1, { operation: unfair })
  const claims = open(unfair)
  t.same(
    [await claim(claims, 10), await claim(claims, 10), await claim(claims, 10), await claim(claims, 10)],
    [{ heavy: 10 }, { heavy: 10 }, { heavy: 10 }, { light: 1 }],
  )
  t.same(await query(`select name, is_fair from accepted.operation where name like 'note.%' order by name`), [
    { name: 'note.create', is_fair: true },
    { name: 'note.unfair', is_fair: false },
  ])
})

t.test(
  'no job is claimed in turn before it is due, while it is blocked, or while the operation is paused',
  async (t) => {
    const { add, claim, open, query } = await setUp(t)
    await add('a', 10)
    const [deferred] = await add('b', 1)
    const [blocked] = await add('c', 1)
    await query(`update accepted_queue.job set start_after = now() + interval '1 hour' where id = $1`, [deferred])
    await query('update accepted_queue.job set blocked = true where id = $1', [blocked])
    const claims = open()
    t.same(await claim(claims, 2), { a: 2 })
    t.same(await claim(claims, 2), { a: 2 })
    await query(`select accepted.pause('note.create')`)
    t.same(await claims.claim(2), [])
    await query(`select accepted.resume('note.create')`)
    t.same(await claim(claims, 2), { a: 2 })
    await query('update accepted_queue.job set start_after = now() where id = $1', [deferred])
    await query('update accepted_queue.job set blocked = false where id = $1', [blocked])
    // Until now, the principal was alone, so the next claims take the oldest jobs.
    const counts = []
    for (let count = 0; count < 4; count++) counts.push(await claim(claims, 1))
    t.same(sum(counts), { a: 2, b: 1, c: 1 })
  },
)

t.test('every way to enqueue a job stores its principal in the queue, and retries keep it', async (t) => {
  const { add, database, query, open } = await setUp(t)
  await add('single', 1)
  await database.kysely.transaction().execute((trx) =>
    insertBatch(trx as unknown as AnyTransaction, {
      ...{ id: uuid7(), principal: 'batch' },
      children: [{ id: uuid7(), operation: note, payload: {} }],
    }),
  )
  await query(`select accepted.enqueue('note.create', '{}', principal => 'sql')`)
  await query(
    `select accepted.enqueue_batch('[{"operation": "note.create", "payload": {}}]', principal => 'sql batch')`,
  )
  await query(
    `select accepted.retry(id) from (select accepted.cancel(id), id from accepted.job where principal = 'sql') j`,
  )
  const read = () =>
    query(`
      select job.principal, singleton_key as stored, state, retry_count from accepted_queue.job queued
      join accepted.job using (id) where name = 'note.create' and state < 'completed' order by principal`)
  const rows = await read()
  t.same(
    rows.map(({ principal }) => principal),
    ['batch', 'single', 'sql', 'sql batch'],
  )
  for (const { principal, stored } of rows) t.equal(stored, principal)
  const claims = open()
  const claimed = await claims.claim(10)
  t.equal(claimed.length, 4)
  await database.kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    for (const claim of claimed) await claims.fail(trx, claim, { code: 'broken', message: 'Broken' }, 0)
  })
  const retried = await read()
  t.ok(retried.every(({ principal, stored, state }) => stored === principal && state === 'retry'))
})

/** Claims on a connection of its own, and counts the pages that each claim touches. */
async function openCounted(t: Test, { database }: Pick<Jobs, 'database'>) {
  const client = new pg.Client({ connectionString: database.options.url })
  await client.connect()
  t.teardown(() => client.end())
  // Makes the plans while the queue is empty.
  await client.query(`select from accepted.claim_in_turn('note.create', 10, null, null)`)
  // Counts what this connection has touched since it last reported its statistics, which it does between transactions.
  // The statistics of the table also count other connections, some of them late.
  const countPages = async (): Promise<number> => {
    const { rows } = await client.query(`
      select sum(pg_stat_get_xact_blocks_fetched(relation))::int as pages
      from (
        select 'accepted_queue.job_common'::regclass::oid as relation
        union all select indexrelid from pg_index where indrelid = 'accepted_queue.job_common'::regclass
      ) touched`)
    return rows[0].pages
  }
  let last: [number | null, string | null] = [null, null]
  return async (limit: number) => {
    await client.query('begin')
    const before = await countPages()
    const { rows } = await client.query(
      `select turn_priority, turn_principal from accepted.claim_in_turn('note.create', $1, $2, $3)`,
      [limit, ...last],
    )
    last = [rows.at(-1).turn_priority, rows.at(-1).turn_principal]
    const pages = (await countPages()) - before
    await client.query('commit')
    return { claimed: rows.length, pages }
  }
}

t.test('a claim touches few pages of a backlog of 1,000 principals with 50,000 jobs', async (t) => {
  const jobs = await setUp(t)
  const claim = await openCounted(t, jobs)
  await fill(jobs, { principals: 1_000, jobs: 50_000 })
  for (let count = 0; count < 20; count++) {
    const { claimed, pages } = await claim(100)
    t.equal(claimed, 100)
    t.ok(pages > 0 && pages <= 5_000, `a claim of 100 jobs touched ${pages} pages`)
  }
})

t.test('a claim does not read the 50,000 deferred jobs of a principal', async (t) => {
  const jobs = await setUp(t)
  const claim = await openCounted(t, jobs)
  await fill(jobs, { principals: 1, jobs: 50_000 })
  await jobs.query(`update accepted_queue.job_common set start_after = now() + interval '1 day'`)
  // While autovacuum analyzes a table of the database, a vacuum leaves the rows that were updated since.
  await until(async () => {
    await jobs.query('vacuum accepted_queue.job_common')
    const [{ dead }] = await jobs.query(
      "select n_dead_tup::integer as dead from pg_stat_all_tables where relid = 'accepted_queue.job_common'::regclass",
    )
    return dead === 0
  })
  await jobs.add('p', 30)
  await jobs.add('z', 30)
  await jobs.add('p 0', 5)
  for (let count = 0; count < 5; count++) {
    const { claimed, pages } = await claim(10)
    t.equal(claimed, 10)
    t.ok(pages > 0 && pages <= 500, `a claim of 10 jobs touched ${pages} pages`)
  }
})

t.test('claims in turn do not read the entries of jobs that were claimed before', async (t) => {
  const { add, query } = await setUp(t)
  await query('alter table accepted_queue.job_common set (autovacuum_enabled = off)')
  await add('heavy', 3_000)
  const readEntries = async (count: number): Promise<number> => {
    const rows = await query(`select * from accepted.claim_in_turn('note.create', $1, 0, 'heavy')`, [count])
    return Number(rows.at(-1).read_entries)
  }
  for (let count = 0; count < 50; count++) await readEntries(10)
  // While another process holds an old snapshot, each claim reads the entries again. The jobs suffice for a minute.
  t.ok(await until(async () => (await readEntries(1)) < 50))
})

t.test('when claims in turn read many entries of earlier claims, the next claims take the oldest jobs', async (t) => {
  const { add, claim, open, query, database } = await setUp(t)
  await add('heavy', 5_000)
  await add('light', 100)
  const holder = await beginTransaction(t, database, 'set transaction isolation level repeatable read')
  await holder.client.query('select from accepted_queue.job limit 1')
  await query(`select from accepted.claim('note.create', 3000, '-infinity')`)
  const claims = open()
  t.same(await claim(claims, 10), { heavy: 10 })
  t.same(await claim(claims, 10), { heavy: 5, light: 5 }, 'this claim reads the entries of 3,000 claimed jobs')
  t.same(await claim(claims, 10), { heavy: 10 })
})

/** Adds jobs to the queue alone, for claims that are not performed. */
const fill = async ({ add, query }: Awaited<ReturnType<typeof setUp>>, size: { principals: number; jobs: number }) => {
  const [template] = await add('template', 1)
  await query(
    `with job as (
      insert into accepted.job (id, operation, principal, max_attempts, updated_at, expires_at)
      select accepted.uuid7(), operation, 'p ' || n % $2::int, max_attempts, updated_at, expires_at
      from accepted.job, generate_series(1, $3::int) n where id = $1
      returning id, principal
    )
    insert into accepted_queue.job (id, name, data, priority, singleton_key, policy, keep_until)
    select job.id, name, jsonb_build_object('job', job.id, 'payload', '{}'), priority, job.principal, policy, keep_until
    from job, accepted_queue.job template where template.id = $1`,
    [template, size.principals, size.jobs],
  )
  await query('select accepted.cancel($1)', [template])
}
