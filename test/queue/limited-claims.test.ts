import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { builtInOperations } from '../../src/jobs/built-in.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import type { NewJob } from '../../src/jobs/new-job.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { Claims } from '../../src/queue/claims.ts'
import { prepareQueues } from '../../src/queue/define-operations.ts'
import { beginTransaction } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'

const input = Type.Object({ tenant: Type.String() })
const key = ({ tenant }: { tenant: string }) => tenant
const name = 'note.limited'
const byConcurrency = defineOperation({ name, input, limit: { key, concurrency: 2 } })
const byRate = defineOperation({ name, input, limit: { key, rate: '100/1m' } })
const unlimited = defineOperation({ name, input })

/** @param defined the operation; its jobs are enqueued and claimed without a worker */
async function setUp(t: Test, defined: Operation = byConcurrency) {
  const jobs = await openJobs(t, [defined])
  const { database, boss } = jobs
  return {
    ...jobs,
    claims: new Claims(database, boss, defined),
    /** Creates the claims of another worker. */
    otherClaims: (operation = defined) => new Claims(database, boss, operation),
    /** Adds one job for each tenant, in one transaction. */
    async add(tenants: readonly string[], more: Partial<NewJob> = {}) {
      const all = tenants.map((tenant) => ({
        ...{ id: uuid7(), operation: defined, payload: { tenant }, principal: 'ann' },
        ...more,
      }))
      await database.kysely.transaction().execute((trx) => enqueue(boss, trx, all))
      return all.map(({ id }) => id)
    },
    define: (operation: Operation) => prepareQueues(database, boss, [operation, ...builtInOperations]),
    inTransaction: (work: (trx: AnyTransaction) => Promise<unknown>) =>
      database.kysely.transaction().execute((trx) => work(trx as unknown as AnyTransaction)),
  }
}

const tenantsOf = (claims: readonly Claim[]) =>
  claims.map(({ payload }) => (payload as { tenant: string }).tenant).sort()
const idsOf = (claims: readonly Claim[]) => claims.map(({ jobId }) => jobId).sort()

t.test('each key has its own places, and a place is free again when a job has ended', async (t) => {
  const { add, claims, inTransaction } = await setUp(t)
  await add(['a', 'a', 'a', 'a', 'b', 'b', 'b'])
  const first = await claims.claim(100)
  t.same(tenantsOf(first), ['a', 'a', 'b', 'b'])
  t.same(await claims.claim(100), [], 'all places are taken')
  const [ended] = first.filter(({ payload }) => (payload as { tenant: string }).tenant === 'a')
  await inTransaction((trx) => claims.complete(trx, [ended as Claim]))
  claims.freePlaces([ended as Claim])
  t.same(tenantsOf(await claims.claim(100)), ['a'])
  t.same(await claims.claim(100), [])
})

t.test('workers that claim at the same time never exceed the concurrency', async (t) => {
  const { add, otherClaims } = await setUp(t)
  const keys = ['a', 'b', 'c', 'd', 'e']
  await add(keys.flatMap((one) => Array.from({ length: 20 }, () => one)))
  const workers = Array.from({ length: 8 }, () => otherClaims())
  const claimed = await Promise.all(
    workers.map(async (worker) => {
      const all: Claim[] = []
      for (let turn = 0; turn < 10; turn++) all.push(...(await worker.claim(3)))
      return all
    }),
  )
  t.same(
    tenantsOf(claimed.flat()),
    keys.flatMap((one) => [one, one]),
  )
})

t.test('keys take turns, and within a key jobs of a higher priority and older jobs come first', async (t) => {
  const unbounded = defineOperation({ name, input, limit: { key, concurrency: 1_000 } })
  const { add, claims } = await setUp(t, unbounded)
  const many = await add(Array.from({ length: 10 }, () => 'many'))
  const [urgent] = await add(['many'], { priority: 5 })
  await add(['few'])
  await add(['other', 'other'])
  const first = await claims.claim(3)
  t.same(tenantsOf(first), ['few', 'many', 'other'])
  t.ok(idsOf(first).includes(urgent as string))
  t.same(tenantsOf(await claims.claim(2)), ['many', 'other'])
  const rest = await claims.claim(100)
  t.equal(rest.length, many.length - 1)
})

t.test('a rate lets one job start at a time, and tells when the next may start', async (t) => {
  const { add, claims, query } = await setUp(t, byRate)
  await add(['a', 'a', 'a', 'b'])
  t.same(tenantsOf(await claims.claim(100)), ['a', 'b'])
  t.same(await claims.claim(100), [])
  const [{ seconds }] = await query(
    "select extract(epoch from slot_at - now())::float8 as seconds from accepted.limit_key where key = 'a'",
  )
  t.ok(seconds > 0 && seconds <= 0.6, `the next slot is in ${seconds} s`)
  const { promise, resolve } = Promise.withResolvers<void>()
  t.same(await claims.claim(100, resolve), [])
  await promise
  t.same(tenantsOf(await claims.claim(100)), ['a'])
})

t.test('over ten minutes, a rate is used, and no window exceeds it by more than one start', async (t) => {
  const { query } = await setUp(t)
  for (const [starts, periodSeconds, maxLatenessSeconds] of [
    [100, 60, 0.25],
    [1, 10, 0.5],
    [50, 5, 0.04],
    [1_000, 1, 0.006],
    [60_000, 60, 0.02],
  ] as const) {
    // Claims as accepted.claim_limited does. A start comes up to the other half of the slack after its claim.
    const [found] = await query(
      `with recursive pace as (select * from accepted.limit_pace($1, $2)), claim (at, slot_at, slots) as (
        select '2026-01-01 00:00Z'::timestamptz, '2026-01-01 00:00Z'::timestamptz, 1
        union all
        select next.at, next.slot_at, accepted.count_slots(next.slot_at, next.at, pace.spacing, pace.catch_up)
        from claim, pace, lateral (
          select slot_at, greatest(slot_at, claim.at + pace.catch_up / 2) + random() * $3 * interval '1 second' as at
          from accepted.next_slot(claim.slot_at, claim.at, claim.slots, pace.spacing, pace.catch_up) slot_at
        ) next
        where claim.at < '2026-01-01 00:10Z'
      ), start as (
        select claim.at + random() * least($3, extract(epoch from pace.catch_up)) * interval '1 second' as at
        from claim, pace, generate_series(1, claim.slots)
      ), counted as (
        select count(*) over (order by at range between current row and $2 * interval '1 second' following) as starts from start
      )
      select max(starts)::integer as fullest, count(*)::float8 / 600 * $2 / $1 as used from counted`,
      [starts, periodSeconds, maxLatenessSeconds],
    )
    t.ok(found.fullest <= starts + 1, `${starts} in ${periodSeconds} s: the fullest window has ${found.fullest}`)
    t.ok(found.used >= 0.95, `${starts} in ${periodSeconds} s: ${Math.round(found.used * 1000) / 10} % are used`)
  }
})

t.test('a worker that claims nothing uses up no start', async (t) => {
  const { add, claims } = await setUp(t, byRate)
  await add(['a'], { runAt: new Date(Date.now() + 3_600_000) })
  for (let turn = 0; turn < 5; turn++) t.same(await claims.claim(100), [])
  const [due] = await add(['a'])
  t.same(idsOf(await claims.claim(100)), [due])
})

t.test('a job that comes back into the queue is claimed again', async (t) => {
  const { add, claims, inTransaction, query } = await setUp(t)
  const [id] = await add(['a'])
  const claimOne = async () => {
    const [claim] = await claims.claim(1)
    t.equal(claim?.jobId, id)
    return claim as Claim
  }
  const lookAgain = async () => t.same(await claims.claim(1), [], 'the key has no job that is due')
  for (const [event, bringBack] of [
    ['released', (claim: Claim) => inTransaction((trx) => claims.release(trx, [claim], 0))],
    ['rescued', (claim: Claim) => inTransaction((trx) => claims.rescue(trx, [claim], { isQuarantined: false }))],
    [
      'failed and retried',
      (claim: Claim) => inTransaction((trx) => claims.fail(trx, claim, { code: 'x', message: 'x' }, 0)),
    ],
    [
      'deferred and rescheduled',
      async (claim: Claim) => {
        await inTransaction((trx) => claims.release(trx, [claim], 3_600))
        await lookAgain()
        await query('select accepted.reschedule($1, now())', [id])
      },
    ],
    [
      'blocked and unblocked',
      async (claim: Claim) => {
        await inTransaction((trx) => claims.rescue(trx, [claim], { isQuarantined: true }))
        await lookAgain()
        await query('update accepted_queue.job set blocked = false where id = $1', [id])
      },
    ],
  ] as const) {
    const claim = await claimOne()
    await lookAgain()
    await bringBack(claim)
    t.pass(event)
  }
  await claimOne()
})

t.test('a job is found although another transaction had locked it, and rolled back', async (t) => {
  const { add, claims, query, database } = await setUp(t)
  const [id] = await add(['a'])
  const other = await beginTransaction(t, database, 'select from accepted_queue.job for update')
  t.same(await claims.claim(1), [])
  await other.client.query('rollback')
  const [{ seconds }] = await query(
    'select extract(epoch from next_at - now())::float8 as seconds from accepted.limit_key',
  )
  t.ok(seconds <= 2, 'the key is looked at again')
  await query('update accepted.limit_key set next_at = now()')
  t.same(idsOf(await claims.claim(1)), [id])
})

t.test('a canceled job is not claimed, and a paused operation starts nothing and uses up nothing', async (t) => {
  const { add, claims, query } = await setUp(t, byRate)
  const [first, second] = await add(['a', 'a'])
  await query('select accepted.cancel($1)', [first])
  await query('select accepted.pause($1)', [name])
  t.same(await claims.claim(10), [])
  await query('select accepted.resume($1)', [name])
  t.same(idsOf(await claims.claim(10)), [second])
})

t.test('jobs that were enqueued, batched, retried and redriven in SQL get the keys of their payloads', async (t) => {
  const { claims, query, inTransaction } = await setUp(t)
  const enqueueInSql = async (tenant: string) => {
    const [{ id }] = await query('select accepted.enqueue($1, $2) as id', [name, { tenant }])
    return id as string
  }
  const claimAll = async () => [...(await claims.claim(100)), ...(await claims.claim(100))]
  for (let count = 0; count < 3; count++) await enqueueInSql('a')
  const items = ['a', 'b', 'b', 'b'].map((tenant) => ({ operation: name, payload: { tenant } }))
  await query('select accepted.enqueue_batch($1::jsonb)', [JSON.stringify(items)])
  const first = await claimAll()
  t.same(tenantsOf(first), ['a', 'a', 'b', 'b'])
  await inTransaction((trx) => claims.complete(trx, first))

  const canceled = await enqueueInSql('c')
  await query('select accepted.cancel($1)', [canceled])
  const [{ id: retry }] = await query('select accepted.retry($1) as id', [canceled])
  const others = (await claimAll()).filter(({ jobId }) => jobId === retry)
  t.same(tenantsOf(others), ['c'])
})

t.test('a limit without keys is one limit for the operation, also for jobs of SQL', async (t) => {
  const { claims, add, query } = await setUp(t, defineOperation({ name, input, limit: { concurrency: 2 } }))
  await add(['a', 'b'])
  await query('select accepted.enqueue($1, $2)', [name, { tenant: 'c' }])
  t.equal((await claims.claim(100)).length, 2)
  t.same(await claims.claim(100), [])
  t.same(await query('select key from accepted.limit_key'), [{ key: '*' }])
})

t.test('a job whose key cannot be computed is claimed without a limit', async (t) => {
  const { claims, query } = await setUp(t, byRate)
  for (let count = 0; count < 3; count++) await query('select accepted.enqueue($1, $2)', [name, { tenant: '' }])
  await claims.claim(10)
  t.equal((await claims.claim(10)).length, 3)
})

t.test('an operation gets a limit: its jobs wait for it, and a worker without the limit claims none', async (t) => {
  const { add, claims: withoutLimit, define, otherClaims, inTransaction } = await setUp(t, unlimited)
  await add(['a', 'a', 'a', 'a', 'b'])
  const [running] = await withoutLimit.claim(1)
  await define(byConcurrency)
  t.same(await withoutLimit.claim(10), [], 'a worker with the older definition claims nothing')
  const claims = otherClaims(byConcurrency)
  await claims.claim(10)
  t.same(tenantsOf(await claims.claim(10)), ['a', 'b'], 'the job that was running counts')
  await inTransaction((trx) => withoutLimit.release(trx, [running as Claim], 0))
  claims.freePlaces([{ ...(running as Claim), limitKey: 'a' }])
  t.same(tenantsOf(await claims.claim(10)), ['a'])
})

t.test('an operation loses its limit: its jobs no longer wait, and nothing is left of the limit', async (t) => {
  const { add, claims, define, otherClaims, query } = await setUp(t)
  await add(['a', 'a', 'a', 'a'])
  t.equal((await claims.claim(10)).length, 2)
  await define(unlimited)
  t.equal((await claims.claim(1)).length, 1, 'a worker with the older definition goes on')
  t.equal((await otherClaims(unlimited).claim(10)).length, 1)
  for (const table of ['limit_key', 'limit_arrival']) t.same(await query(`select from accepted.${table}`), [])
})

t.test('jobs of a transaction that was open while the operation got its limit are found', async (t) => {
  const { boss, claims, database, define, otherClaims, query } = await setUp(t, unlimited)
  const job = { id: uuid7(), operation: unlimited, payload: { tenant: 'a' }, principal: 'ann' }
  await database.kysely.transaction().execute(async (trx) => {
    await enqueue(boss, trx, [job])
    await define(byConcurrency)
  })
  t.same(await claims.claim(1), [])
  await query('select accepted.maintain_limits()')
  const limited = otherClaims(byConcurrency)
  await limited.claim(1)
  t.same(idsOf(await limited.claim(1)), [job.id])
})

t.test('a new rate applies at once', async (t) => {
  const slow = defineOperation({ name, input, limit: { rate: '1/1h' } })
  const { add, claims, define, query } = await setUp(t, slow)
  await add(['a', 'a'])
  t.equal((await claims.claim(10)).length, 1)
  await define(defineOperation({ name, input, limit: { rate: '1/1s' } }))
  const [{ seconds }] = await query(
    'select extract(epoch from slot_at - now())::float8 as seconds from accepted.limit_key',
  )
  t.ok(seconds <= 1)
})

t.test('rows of keys without jobs are deleted, and the keys can be used again', async (t) => {
  const { add, claims, query, inTransaction } = await setUp(t)
  await add(['a'])
  const claimed = await claims.claim(10)
  await inTransaction((trx) => claims.complete(trx, claimed))
  await claims.claim(10)
  await query("update accepted.limit_key set slot_at = slot_at - interval '1 hour'")
  await query('select accepted.maintain_limits()')
  t.same(await query('select from accepted.limit_key'), [])
  await add(['a'])
  t.equal((await claims.claim(10)).length, 1)
})

t.test('enqueue refuses a payload without a valid limit key', async (t) => {
  const { add } = await setUp(t)
  await t.rejects(add(['']), { name: 'TypeError', message: /^The limit key of 'note\.limited' has 0 characters/ })
  await t.rejects(add(['x'.repeat(256)]), { name: 'TypeError', message: /has 256 characters/ })
  await t.rejects(add(['\0']), { name: 'TypeError', message: /has a NUL character/ })
  const throwing = defineOperation({ name, input, limit: { key: () => JSON.parse('{'), concurrency: 1 } })
  await t.rejects(add(['a'], { operation: throwing }), {
    name: 'TypeError',
    message: /^limit\.key of 'note\.limited' failed/,
  })
})
