// Runs every frequent statement with plans that were made for empty tables, and counts what it reads of full tables.
import { defineOperation } from 'accepted'
import { sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { createCommitter } from '../src/accept/committer.ts'
import { retryJob } from '../src/accept/retry-job.ts'
import { type Database, openDatabase } from '../src/db/database.ts'
import { commitStatement, pipeline } from '../src/db/pipeline.ts'
import { useGenericPlan } from '../src/db/plan-settings.ts'
import { withBuiltIn } from '../src/jobs/built-in.ts'
import { cancelJob } from '../src/jobs/cancel.ts'
import { readChangePosition, readChanges, readChangesSince } from '../src/jobs/changes.ts'
import { readDatabaseMetrics, readOperationMetrics } from '../src/jobs/database-metrics.ts'
import { createEndings } from '../src/jobs/endings.ts'
import { insertBatch } from '../src/jobs/enqueue-batch.ts'
import { listJobs } from '../src/jobs/list.ts'
import { findJob, findJobs, readJob } from '../src/jobs/read.ts'
import { redrive } from '../src/jobs/redrive.ts'
import type { AnyTransaction, Operation } from '../src/operation.ts'
import { createKeyedMutex } from '../src/primitives/keyed-mutex.ts'
import { startBoss } from '../src/queue/boss.ts'
import type { Claim } from '../src/queue/claim.ts'
import { prepareQueues } from '../src/queue/define-operations.ts'
import { countBacklog, isBacklogFull } from '../src/queue/due-jobs.ts'
import { sendHeartbeats } from '../src/queue/heartbeat.ts'
import { JobFailed } from '../worker/errors.ts'
import { createCancellations } from '../worker/execution/cancellation.ts'
import { finishAttempts } from '../worker/execution/finish.ts'
import { findPending, lockPending } from '../worker/execution/pending-jobs.ts'
import { releaseClaims } from '../worker/execution/release.ts'
import { writeRunning } from '../worker/execution/write-running.ts'
import { reportChildren, resolveMissed } from '../worker/maintenance/children.ts'
import { pollDueWork } from '../worker/maintenance/poll.ts'
import { pruneQuarantine } from '../worker/maintenance/quarantine.ts'
import { createReconciler } from '../worker/maintenance/reconciler.ts'
import { registerRescues, rescueOrphaned } from '../worker/maintenance/rescuer.ts'
import { hasDebianPostgres, startDebianPostgres } from './support/debian-postgres.ts'
import { type Jobs, openJobs } from './support/jobs.ts'
import { createOperationWorker } from './support/operation-worker.ts'

const note = defineOperation({
  ...{ name: 'note.create', input: Type.Object({ word: Type.String() }) },
  // A failed attempt is not claimed again during the test.
  retry: { limit: 3, delaySeconds: 3_600, maxDelaySeconds: 36_000 },
})
const grouped = defineOperation({
  ...{ name: 'note.group', input: Type.Object({ word: Type.String() }) },
  ...{ group: () => 'one', groupConcurrency: 5 },
})
const shared = defineOperation({
  ...{ name: 'note.share', input: Type.Object({ word: Type.String() }), route: { method: 'POST', url: '/notes' } },
  coalesce: { key: ({ word }) => word, forSeconds: 3_600, mode: 'last' },
})
const abandoning = defineOperation({
  ...{ name: 'note.abandon', input: Type.Object({ word: Type.String() }), abandon: async () => {} },
})
const limited = defineOperation({
  ...{ name: 'note.limited', input: Type.Object({ word: Type.String() }) },
  limit: { key: ({ word }) => word, rate: '100/1m', concurrency: 5 },
})
const operations = [note, grouped, shared, abandoning, limited]

const loadedRows = 40_000
/** Maximum number of rows, of index entries and of pages that one action may read. The page of a list reads 100 rows. */
const maxRead = 2_500

/** Number of jobs that were added with ids of long ago. */
let oldJobs = 0

type Action = () => Promise<unknown>

/** One connection runs all actions, so that a plan that was made for empty tables stays in use. */
async function setUp(t: Test, url?: string) {
  const jobs = await openJobs(t, operations, url)
  // Makes Postgres keep the first plan of each prepared statement.
  await jobs.query(`
    do $$ begin execute format('alter database %I set plan_cache_mode = force_generic_plan', current_database()); end $$`)
  const database = openDatabase({ ...jobs.database.options, poolSize: 1 })
  t.teardown(() => database.close())
  // Prepares no statements, so that its own plans are made for full tables.
  const client = new pg.Client({ connectionString: jobs.database.options.url })
  await client.connect()
  t.teardown(() => client.end())
  const query: Jobs['query'] = async (text, values) => (await client.query(text, values)).rows
  const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
  t.teardown(() => boss.stop({ graceful: false }))
  await prepareQueues(database, boss, withBuiltIn(new Map(operations.map((one) => [one.name, one]))).values())
  const workers = operations.map((operation) => createOperationWorker(t, { database, boss }, operation))
  await registerRescues(
    database,
    operations.map(({ name }) => name),
  )
  return { query, database, actions: createActions(t, { jobs, query, database, boss, workers }), jobs }
}

type Context = Pick<Jobs, 'database' | 'boss' | 'query'> & {
  jobs: Jobs
  workers: ReturnType<typeof createOperationWorker>[]
}

function createActions(t: Test, { jobs, query, database, boss, workers }: Context): Record<string, Action> {
  const { kysely } = database
  const [worker, groupWorker] = workers as [(typeof workers)[0], (typeof workers)[0]]
  const limitedWorker = workers[operations.indexOf(limited)] as (typeof workers)[0]
  const committer = createCommitter({ database, boss, mutex: createKeyedMutex() })
  const byName = new Map<string, Operation>(operations.map((operation) => [operation.name, operation]))
  const transaction = <Result>(work: (trx: AnyTransaction) => Promise<Result>) =>
    kysely.transaction().execute((trx) => work(trx as unknown as AnyTransaction))
  const withPlan = <Result>(work: (trx: AnyTransaction) => Promise<Result>) =>
    transaction(async (trx) => {
      await useGenericPlan(trx)
      return work(trx)
    })
  const submit = async (key: string | undefined, operation: Operation = note) => {
    const idempotency = key === undefined ? undefined : { key, fingerprint: Buffer.alloc(32) }
    const entry = { id: uuid7(), operation, input: { word: 'x' }, params: {}, principal: 'ann', idempotency }
    const outcome = await committer.submit(entry)
    t.match(outcome, { kind: /accepted|coalesced|replayed/ })
    return entry.id
  }
  const claim = async (isDuplicate = false): Promise<Claim> => {
    const idempotencyKey = isDuplicate ? 'processed' : uuid7()
    const id = await jobs.add(note, { word: 'x' }, { idempotencyKey, priority: 9 })
    const [claimed] = await worker.claims.claim(1)
    t.equal(claimed?.jobId, id)
    return claimed as Claim
  }
  const begin = async (claimed: Claim) => {
    const [, , running] = await kysely
      .transaction()
      .execute((trx) =>
        pipeline(trx as unknown as AnyTransaction, (trx) => [
          useGenericPlan(trx),
          lockPending(trx, [claimed.jobId]),
          writeRunning(trx, worker, [claimed]),
          commitStatement(trx),
        ]),
      )
    t.equal(running.size, 1)
    return claimed
  }
  /** @param others other jobs that change with the end of this job */
  const finish = async (claimed: Claim, error?: unknown, others: readonly string[] = []) => {
    const attempt = error === undefined ? { claim: claimed } : { claim: claimed, error }
    const result = await transaction((trx) => finishAttempts(worker, trx, [attempt], 'skip'))
    t.same(result.jobs, [claimed.jobId, ...others])
    return claimed.jobId
  }
  const silence = (claimed: Claim) =>
    query(
      `update accepted_queue.job set heartbeat_on = now() - interval '1 hour' where name = 'note.create' and id = $1`,
      [claimed.queued.id],
    )
  /** Adds a batch of jobs that are claimed next. Returns its id. */
  const addBatch = async (size: number) => {
    const id = uuid7()
    const children = Array.from({ length: size }, () => {
      return { id: uuid7(), operation: note, payload: { word: 'x' }, priority: 9 }
    })
    await transaction((trx) => insertBatch(trx, { id, principal: 'ann', children }))
    return id
  }
  const endings = createEndings({ database, operations: byName, notifier: worker.notifier, log: worker.log })
  const cancellations = createCancellations(database)
  const reconcile = createReconciler({ ...worker, log: worker.log })
  return {
    'accept a request': () => submit(uuid7()),
    'accept a request without a key': () => submit(undefined),
    'replay a request': async () => submit(`replayed`),
    'share a job': async () => {
      await submit(uuid7(), shared)
      await submit(uuid7(), shared)
    },
    'read a job': async () =>
      t.match(await findJob(kysely, await submit(undefined), { principal: 'ann' }), { job: {} }),
    'read jobs': async () => {
      const ids = [await submit(undefined), await submit(undefined)]
      t.equal((await findJobs(kysely, ids, { principal: 'ann' })).size, 2)
    },
    'read a job for a webhook': async () => t.ok(await readJob(kysely, await submit(undefined))),
    'list jobs': async () => t.ok((await listJobs(kysely, { principal: 'ann', limit: 20 })).jobs.length > 0),
    'list children': async () => {
      const { jobs } = await listJobs(kysely, { principal: 'ann', parent: manyChildren, limit: 20 })
      t.ok(jobs.every(({ parent }) => parent === manyChildren))
    },
    'list the children of a job of another principal': async () =>
      t.same((await listJobs(kysely, { principal: 'bob', parent: manyChildren, limit: 20 })).jobs, []),
    'list jobs of a principal with few': async () => listJobs(kysely, { principal: 'bob', limit: 20 }),
    'find changes of watched jobs and principals': async () => {
      const since = await readChangePosition(kysely)
      const id = await submit(undefined)
      const old = '01000000-0000-7000-8000-000000000000'
      const watched = new Map([
        [id, 0],
        [old, 0],
      ])
      const found = await readChanges(kysely, { watched, notified: [id], principals: ['ann'], since })
      t.ok(found.jobs.some((job) => job.id === id))
    },
    'find missed changes': async () => {
      const position = await readChangePosition(kysely)
      await submit(undefined)
      const found = await readChangesSince(kysely, { principal: 'ann', since: position, limit: 10 })
      t.equal(found?.jobs.length, 1)
    },
    'cancel a job': async () => {
      const id = await submit(undefined)
      t.match(await withPlan((trx) => cancelJob(trx, { id, principal: 'ann' })), { kind: 'canceled' })
    },
    'retry a job': async () => {
      const id = await submit(undefined)
      await withPlan((trx) => cancelJob(trx, { id, principal: 'ann' }))
      const request = { id: uuid7(), jobId: id, owner: 'ann', principal: 'ann' }
      t.match(await withPlan((trx) => retryJob(trx, byName, request)), { kind: 'accepted' })
    },
    'redrive a job': async () => {
      // Without this id, the statement also reads the index entries of older failures.
      const after = uuid7()
      const id = await finish(await claim(), new JobFailed('broken', 'Broken'))
      const options = { after, batchSize: 10, maxRedriven: 10 }
      t.match(await transaction((trx) => redrive(trx, byName.keys(), options)), [{ id, outcome: 'redriven' }])
    },
    'act on a job in SQL': async () => {
      const { rows } = await sql<{ id: string }>`
        select accepted.enqueue('note.create', '{"word": "x"}', ${uuid7()}, 'eve') as id`.execute(kysely)
      const id = rows[0]?.id
      await sql`select accepted.reschedule(${id}, now() + interval '1 day')`.execute(kysely)
      await sql`select accepted.prioritize(${id}, 1)`.execute(kysely)
      await sql`select accepted.cancel(${id}), accepted.retry(${id})`.execute(kysely)
      await sql`select accepted.pause('note.group'), accepted.resume('note.group')`.execute(kysely)
    },
    'forget a person': async () => {
      await sql`select accepted.enqueue('note.create', '{"word": "x"}', ${uuid7()}, 'eve')`.execute(kysely)
      await sql`select accepted.forget('eve', true)`.execute(kysely)
    },
    'read the deliveries of an endpoint': async () =>
      sql`select * from accepted.delivery_log where endpoint_id = ${endpoint} order by at desc limit 20`.execute(
        kysely,
      ),
    'find jobs by an index': async () => {
      for (const filter of [
        { status: 'failed', error: 'broken' },
        { status: 'running' },
        { principal: 'ann' },
        { retried: false },
      ]) {
        const { rows } = await sql<{ ids: string[] }>`
          select job_ids as ids from accepted.find_jobs(${filter}::jsonb, max_jobs => 20)`.execute(kysely)
        t.ok(rows[0]?.ids)
      }
    },
    'undo the retries of many jobs': async () => {
      const { rows } = await sql<{ job: string; since: string }>`
        select accepted.enqueue('note.create', '{"word": "x"}') as job, accepted.uuid7() as since`.execute(kysely)
      const { job, since } = rows[0] ?? {}
      await sql`select accepted.cancel(${job})`.execute(kysely)
      await sql`select accepted.change_jobs('retry', array[${job}::uuid])`.execute(kysely)
      const found = await sql<{ ids: string[] }>`
        select job_ids as ids from accepted.find_jobs(${{ can: 'undo', since }}::jsonb, max_read => 500)`.execute(
        kysely,
      )
      t.ok(found.rows[0]?.ids)
      await sql`select accepted.change_jobs('undo', array[${job}::uuid], ${since})`.execute(kysely)
    },
    'look for an old job': async () => findJob(kysely, '01000000-0000-7000-8000-000000000000', { principal: 'ann' }),
    'claim a job and release it': async () => {
      await releaseClaims(worker, [await claim()], 3_600)
    },
    'claim old jobs by age and in turn': async () => {
      // Before Postgres 18, some conditions read all ids that follow, and of new jobs there are none.
      for (let count = 0; count < 20; count++) {
        const id = `01000000-0000-7000-8000-${(oldJobs++).toString().padStart(12, '0')}`
        await jobs.add(note, { word: 'x' }, { id, priority: 9 })
      }
      for (const _ of ['by age', 'in turn']) {
        const claimed = await worker.claims.claim(10)
        t.equal(claimed.length, 10)
        await transaction((trx) =>
          finishAttempts(
            worker,
            trx,
            claimed.map((claim) => ({ claim })),
            'skip',
          ),
        )
      }
    },
    'claim a job of a group': async () => {
      const id = await jobs.add(grouped, { word: 'x' })
      const [claimed] = await groupWorker.claims.claim(1)
      t.equal(claimed?.jobId, id)
      await transaction((trx) => finishAttempts(groupWorker, trx, [{ claim: claimed as Claim }], 'skip'))
    },
    'claim a job with a limit': async () => {
      const id = await jobs.add(limited, { word: uuid7() })
      const [claimed] = await limitedWorker.claims.claim(1)
      t.equal(claimed?.jobId, id)
      await transaction((trx) => finishAttempts(limitedWorker, trx, [{ claim: claimed as Claim }], 'skip'))
      limitedWorker.claims.freePlaces([claimed as Claim])
      t.same(await limitedWorker.claims.claim(1), [])
    },
    'find the key of a job': async () => {
      await sql`select accepted.enqueue('note.limited', ${{ word: uuid7() }}::jsonb)`.execute(kysely)
      await limitedWorker.claims.claim(1)
      const [claimed] = await limitedWorker.claims.claim(1)
      await transaction((trx) => finishAttempts(limitedWorker, trx, [{ claim: claimed as Claim }], 'skip'))
    },
    'run a quarantined job with a limit': async () => {
      const id = await jobs.add(limited, { word: uuid7() })
      await query("update accepted_queue.job set blocked = true where name = 'note.limited' and id = $1", [id])
      const claimed = (await limitedWorker.claims.claimQuarantined(id)) as Claim
      await transaction((trx) => finishAttempts(limitedWorker, trx, [{ claim: claimed }], 'skip'))
    },
    'read a job that waits for its limit': async () => {
      const id = await jobs.add(limited, { word: heldKey })
      const found = await findJob(kysely, id, { principal: 'ann' })
      t.ok(typeof found !== 'string' && found.job)
      await sql`select accepted.cancel(${id})`.execute(kysely)
      await limitedWorker.claims.claim(1)
    },
    'begin and complete a job': async () => finish(await begin(await claim())),
    'complete a job without begin': async () => finish(await claim()),
    'complete a duplicate': async () => finish(await claim(true)),
    'retry a failed attempt': async () => {
      await finish(await begin(await claim()), new Error('broken'))
    },
    'fail a job': async () => finish(await begin(await claim()), new JobFailed('broken', 'Broken')),
    'send heartbeats': async () => {
      const claimed = await claim()
      await sendHeartbeats(database, [{ name: note.name, claims: [claimed] }])
      t.equal((await withPlan((trx) => worker.claims.findHeld(trx, [claimed]))).length, 1)
      const { rows } = await withPlan((trx) => worker.claims.notHeldProof(claimed).execute(trx))
      t.equal(rows.length, 0)
      t.equal((await findPending(kysely, [claimed.jobId])).size, 1)
      await finish(claimed)
    },
    'rescue a job and run it in quarantine': async () => {
      const claimed = await claim()
      await silence(claimed)
      await sql`update accepted.rescue set checked_at = '-infinity'`.execute(kysely)
      await rescueOrphaned(database, workers)
      const quarantined = await worker.claims.claimQuarantined(claimed.queued.id)
      t.equal(quarantined?.jobId, claimed.jobId)
      await pruneQuarantine(database)
      await finish(quarantined as Claim)
    },
    'poll for work': () => pollDueWork(database, [...byName.values()], []),
    'poll for cancellations': async () => {
      const stop = cancellations.watch(await submit(undefined), () => {})
      await cancellations.poll()
      stop()
    },
    'read the backlog': async () => {
      t.equal((await readOperationMetrics(database, [...byName.keys()])).length, operations.length)
      t.equal((await readDatabaseMetrics(database)).partitions_ahead, 3)
      await isBacklogFull(database, note.name, 100)
      await countBacklog(database, note.name, 'ann', 100)
    },
    'end a job with abandon': async () => {
      const id = await jobs.add(abandoning, { word: 'x' })
      await sql`select accepted.cancel(${id})`.execute(kysely)
      await endings.completeDue()
      t.match(await query('select status from accepted.job where id = $1', [id]), [{ status: 'canceled' }])
    },
    'list the children of a batch': async () => {
      const parent = await addBatch(2)
      t.equal((await listJobs(kysely, { principal: 'ann', parent, limit: 20 })).jobs.length, 2)
      await sql`select accepted.cancel(${parent})`.execute(kysely)
    },
    'end the children of a batch': async () => {
      const parent = await addBatch(2)
      await sql`update accepted.reconciliation set children_due_at = now()`.execute(kysely)
      await reportChildren(database, worker.notifier, AbortSignal.abort())
      await finish((await worker.claims.claim(1))[0] as Claim)
      await finish((await worker.claims.claim(1))[0] as Claim, undefined, [parent])
      t.match(await query('select status from accepted.job where id = $1', [parent]), [{ status: 'succeeded' }])
    },
    'start a job that waits for another': async () => {
      const first = await claim()
      const after = [first.jobId]
      const second = await jobs.add(note, { word: 'x' }, { after, runAt: new Date(Date.now() + 86_400_000) })
      await finish(first, undefined, [second])
      t.match(await query('select waiting_for from accepted.job where id = $1', [second]), [{ waiting_for: null }])
    },
    'cancel a batch': async () => void (await sql`select accepted.cancel(${await addBatch(2)})`.execute(kysely)),
    'look for ends that were missed': () => resolveMissed(database, worker.notifier),
    'correct a job that was failed in the queue': async () => {
      const id = await submit(undefined)
      await query(
        `update accepted_queue.job set state = 'failed', completed_on = now() where name = 'note.create' and id = $1`,
        [id],
      )
      // Compares the newest jobs only.
      await sql`
        update accepted.reconciliation set
          compared_at = '-infinity', position = ${id}::uuid, ended_before = now() - interval '1 minute'`.execute(kysely)
      await reconcile()
      t.match(await query('select status from accepted.job where id = $1', [id]), [{ status: 'failed' }])
    },
  }
}

/**
 * Adds rows of all kinds: ended and deferred jobs of many days and principals, and their keys. Creates no temporary
 * table, because its schema would be new, and Postgres then discards all plans of all connections.
 */
async function load(query: Jobs['query']): Promise<void> {
  // A tenth of the ids are in the default partition, and the others in the partition of the day.
  const loaded = `(
    select
      overlay(
        case when n % 10 = 0 then '00' || substr(md5(n::text), 3)
          else replace(substr(accepted.uuid_floor(now() - n * step)::text, 1, 13), '-', '') || substr(md5(n::text), 13)
        end placing '7' from 13
      )::uuid as id,
      n, n % 3 <> 0 as has_ended
    from generate_series(1, ${loadedRows}) n
    cross join least(interval '200 ms', (now() - date_trunc('day', now(), 'UTC')) / ${loadedRows + 1}) step
  ) as loaded`
  await query(`
    insert into accepted.job (id, operation, status, principal, max_attempts, error, payload, ended_at, expires_at,
      retry_of, created_at, updated_at)
    select id, 'note.create', case when has_ended then 'failed' else 'queued' end::accepted.job_status,
      case when n % 4 = 0 then 'ann' else 'p' || n % 100 end, 3,
      case when has_ended then '{"code": "broken"}'::jsonb end, '{}', case when has_ended then now() - interval '1 h' end,
      now() + interval '1 day', case when n % 5 = 1 then gen_random_uuid() end,
      now() - interval '1 h', now() - interval '1 h'
    from ${loaded}`)
  await query(
    `insert into accepted.job (id, operation, principal, parent, max_attempts, expires_at)
    select $1::uuid, 'note.create', 'ann', null::uuid, 3, now() + interval '1 day'
    union all
    select accepted.uuid7(), 'note.create', 'ann', $1, 3, now() + interval '1 day' from generate_series(1, 10000)`,
    [manyChildren],
  )
  await query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select accepted.uuid7(), 'webhook.deliver', 'webhook:' || $1, 3, now() + interval '1 day'
    from generate_series(1, 10000)`,
    [endpoint],
  )
  await query(`
    insert into accepted_queue.job (id, name, data, state, start_after, completed_on, retry_limit)
    select id, 'note.create', jsonb_build_object('job', id, 'payload', '{}'::jsonb),
      case when has_ended then 'failed' else 'created' end::accepted_queue.job_state,
      now() + interval '1 day', case when has_ended then now() - interval '1 h' end, 0
    from ${loaded}`)
  // A tenth of the jobs with a limit have one key, and the others have 1,000 keys. All of them are held back. Without
  // triggers, no arrivals are left to read.
  await query("set session_replication_role = 'replica'")
  await query(`
    insert into accepted_queue.job (id, name, data, policy, singleton_key)
    select gen_random_uuid(), 'note.limited', '{}', 'limited', case when n % 10 = 0 then '${heldKey}' else (n % 1000)::text end
    from generate_series(1, ${loadedRows}) n`)
  await query("set session_replication_role = 'origin'")
  await query(`
    insert into accepted.limit_key (operation, key, next_at, slot_at)
    select distinct name, singleton_key, now() + interval '1 h', now() + interval '1 h'
    from accepted_queue.job where name = 'note.limited'
    on conflict on constraint limit_key_pkey do update set next_at = excluded.next_at, slot_at = excluded.slot_at`)
  await query(`
    insert into accepted.idempotency_key (principal, key, fingerprint, job_id)
    select 'ann', n::text, sha256(n::text::bytea), id from ${loaded}`)
  await query(`
    insert into accepted.processed_key (operation, principal, key, job_id)
    select 'note.create', 'ann', n::text, id from ${loaded}`)
  await query(`
    insert into accepted.dependency (job_id, awaited_id)
    select id, (select id from accepted.job where not status = 'failed' limit 1) from ${loaded} where n % 10 = 1`)
  await query(`
    insert into accepted.coalesced_key (operation, principal, key, job_id, ends_at)
    select 'note.share', 'ann', n::text, id, now() + interval '1 h' from ${loaded}`)
}

/** The key of as many jobs as there are other rows. The rate holds these jobs back. */
const heldKey = 'held'

const processedBy = uuid7()

/** A job of `ann` with 10,000 children. */
const manyChildren = uuid7()

/** A webhook endpoint with 10,000 deliveries. It receives no events. */
const endpoint = uuid7()

const filledTables = `accepted.job, accepted.idempotency_key, accepted.processed_key, accepted.coalesced_key, accepted.attempt,
  accepted.change, accepted.quarantine, accepted.ending, accepted.parent, accepted.dependency, accepted.limit_key,
  accepted.limit_arrival, accepted_queue.job_common`

const tables = `
  select oid::regclass as name from pg_class
  where relkind = 'r' and relnamespace in ('accepted'::regnamespace, 'accepted_queue'::regnamespace)`

/** Counts what was read so far of all tables: rows, index entries and pages. */
async function countReads({ pool }: Database): Promise<number> {
  await pool.query('select pg_stat_force_next_flush()')
  const { rows } = await pool.query(`
    select (
      (select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables) +
      (select sum(idx_tup_read) from pg_stat_user_indexes) +
      (select sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0)) from pg_statio_user_tables)
    )::integer as reads`)
  return rows[0].reads
}

function testPlans(server: string, getUrl: (t: Test) => Promise<string | undefined>): void {
  t.test(`on ${server}, no statement reads a whole table, even with plans made for empty tables`, async (t) => {
    const { query, database, actions, jobs } = await setUp(t, await getUrl(t))
    for (const { name } of await query(tables)) await query(`alter table ${name} set (autovacuum_enabled = off)`)
    await query(
      `insert into accepted.webhook_endpoint (id, url, operations, secrets) values ($1, 'http://127.0.0.1', '{}', '{x}')`,
      [endpoint],
    )
    const runAll = async () => {
      await jobs.add(note, { word: 'x' }, { runAt: new Date(Date.now() + 86_400_000), id: processedBy })
      await query("insert into accepted.processed_key values ('note.create', 'ann', 'processed', $1)", [processedBy])
      for (const action of Object.values(actions)) await action()
    }
    // A statement is prepared at its second use.
    for (let count = 0; count < 3; count++) {
      await query(`truncate ${filledTables}`)
      // Truncating discards all plans. Postgres makes new ones at the next use, with the statistics of empty tables.
      for (const { name } of await query(tables)) await query(`analyze ${name}`)
      await runAll()
    }
    await load(query)
    await query('select pg_stat_force_next_flush()')
    for (const [name, action] of Object.entries(actions)) {
      // Otherwise what the earlier action has read through this pool may count for this action.
      await jobs.query('select pg_stat_force_next_flush()')
      const before = await countReads(database)
      await action()
      const reads = (await countReads(database)) - before
      t.ok(reads <= maxRead, `to ${name}, ${reads} rows, index entries and pages were read`)
    }
  })
}

testPlans('this server', async () => undefined)

if (hasDebianPostgres(15)) testPlans('Postgres 15', (t) => startDebianPostgres(t, 15))
