// Counts the statements and round trips that requests and jobs need. 100 jobs need as many as one job.
import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import type { AcceptEntry } from '../src/accept/accept.ts'
import { createCommitter } from '../src/accept/committer.ts'
import { PipelinedClient } from '../src/db/client.ts'
import { type Database, openDatabase } from '../src/db/database.ts'
import { createNotifier } from '../src/db/notifier.ts'
import { enqueue } from '../src/jobs/enqueue.ts'
import { createKeyedMutex } from '../src/primitives/keyed-mutex.ts'
import { startBoss } from '../src/queue/boss.ts'
import { Claims } from '../src/queue/claims.ts'
import { prepareQueues } from '../src/queue/define-operations.ts'
import { sendHeartbeats } from '../src/queue/heartbeat.ts'
import { createCancellations } from '../worker/execution/cancellation.ts'
import { ClaimLoop } from '../worker/execution/claim-loop.ts'
import { createProgressWriter } from '../worker/execution/progress.ts'
import { createRunTimes } from '../worker/execution/run-times.ts'
import type { Handler } from '../worker/handlers.ts'
import type { SettlingJob } from '../worker/running-job.ts'
import { type EffectTables, type Jobs, openJobs, writeEffects } from './support/jobs.ts'
import { createOperationWorker } from './support/operation-worker.ts'
import { until } from './support/until.ts'

const note = defineOperation({
  name: 'note.create',
  input: Type.Object({ word: Type.String() }),
  accept: async (trx: Transaction<EffectTables>, entries) => {
    await writeEffects(
      trx,
      entries.map(({ id, input }) => ({ id, payload: input })),
    )
    return entries.map(({ input }) => ({ payload: input }))
  },
})

/** No worker claims its jobs. */
const other = defineOperation({ name: 'note.other', input: Type.Object({}) })

/** Shortens a statement to its verb and its first table or function. */
function describe(text: string): string {
  const [verb = ''] = text.trim().split(/\W/, 1)
  const [, table] = text.match(/(?:insert into|update|from|join) "?((?:accepted|accepted_queue)\.\w+|effect)/i) ?? []
  const [, calledFunction] = text.match(/^\s*select (\w+(?:\.\w+)?)\(/) ?? []
  return `${verb.toLowerCase()} ${table ?? calledFunction ?? ''}`.trim()
}

const shared = defineOperation({
  name: 'note.share',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ word: Type.String() }),
  coalesce: { key: ({ word }) => word, forSeconds: 3_600, mode: 'last' },
})

const shareStatements = [
  'begin',
  'select set_config',
  'with accepted.idempotency_key',
  'select pg_current_xact_id_if_assigned',
  'select accepted.take_coalescing_keys',
  'insert accepted.idempotency_key',
  'select accepted.coalesce_requests',
  'commit',
]
const acceptStatements = [
  'begin',
  'select set_config',
  'with accepted.idempotency_key',
  'select pg_current_xact_id_if_assigned',
  'insert effect',
  'insert accepted.job',
  'with accepted_queue.job_common',
  'commit',
  // Kysely's own: the transaction has ended, so it is not sent.
  'commit',
]
/** With `perform`, the statement that claims jobs also sets them to running. */
const claimStatements = ['select', 'with'].flatMap((verb) => [
  `${verb} accepted.claim`,
  `${verb} accepted.claim_in_turn`,
])
/** A full claim is followed by a second claim, and then by a claim from the start of the queue. */
const maxClaims = 3
const settleStatements = [
  'begin',
  'select set_config',
  'with accepted.processed_key',
  'select set_config',
  'insert effect',
  'select set_config',
  'update accepted.job',
  'delete accepted_queue.job_common',
  'set',
  'commit',
]

const roundTrips = { accept: 3, share: 5, settle: 4 }

interface CountedDatabase {
  database: Database
  /** The statements that were sent. */
  statements: string[]
  /** Counts the round trips of all statements, or only of statements for which `isCounted` returns true. */
  countRoundTrips(isCounted?: (statement: string) => boolean): number
}

/** Opens a database and records its statements. A unique application name identifies its connections. */
function openCounted(t: Test, { options }: Database): CountedDatabase {
  const applicationName = `counted ${uuid7()}`
  const database = openDatabase({ ...options, applicationName, poolSize: 1 })
  t.teardown(() => database.close())
  const statements: string[] = []
  const roundTripStatements: string[] = []
  const record = (prototype: pg.Client, list: string[]) => {
    const { query } = prototype
    // biome-ignore lint/suspicious/noExplicitAny: pg's query has eight overloads
    prototype.query = function (this: pg.Client, ...given: any[]): any {
      const [{ text = given[0] }] = given
      const { connectionParameters } = this as unknown as { connectionParameters: { application_name: string } }
      if (connectionParameters.application_name === applicationName) list.push(describe(text))
      return Reflect.apply(query, this, given)
    }
    t.teardown(() => {
      prototype.query = query
    })
  }
  // PipelinedClient sends all statements of one event loop turn with a single query of pg.Client.
  record(PipelinedClient.prototype, statements)
  record(pg.Client.prototype, roundTripStatements)
  return {
    database,
    statements,
    countRoundTrips: (isCounted = () => true) => roundTripStatements.filter(isCounted).length,
  }
}

for (const count of [1, 100]) {
  const subject = count === 1 ? '1 job' : `${count} jobs`

  t.test(`accepting ${subject} with keys takes ${acceptStatements.length} statements`, async (t) => {
    const jobs = await openJobs(t, [note])
    const { database, statements, countRoundTrips } = openCounted(t, jobs.database)
    const committer = createCommitter({ database, boss: jobs.boss, mutex: createKeyedMutex() })
    const entries = Array.from({ length: count }, (_, index): AcceptEntry => {
      const idempotency = { key: `k${index}`, fingerprint: Buffer.alloc(32) }
      return { id: uuid7(), operation: note, input: { word: 'x' }, params: {}, principal: 'ann', idempotency }
    })
    // Opens the connection. Opening takes a round trip of its own.
    await database.pool.query('select')
    statements.length = 0
    const before = countRoundTrips()
    const committed = await Promise.all(entries.map((entry) => committer.submit(entry)))
    t.equal(committed.filter(({ kind }) => kind === 'accepted').length, count)
    t.same(statements, acceptStatements)
    t.equal(countRoundTrips() - before, roundTrips.accept)
  })

  t.test(`adding ${count} requests to jobs that they share takes ${shareStatements.length} statements`, async (t) => {
    const jobs = await openJobs(t, [shared])
    const { database, statements, countRoundTrips } = openCounted(t, jobs.database)
    const committer = createCommitter({ database, boss: jobs.boss, mutex: createKeyedMutex() })
    const submit = (key: string) =>
      Array.from({ length: count }, (_, index) =>
        committer.submit({
          ...{ id: uuid7(), operation: shared, input: { word: `${index}` }, params: {}, principal: 'ann' },
          idempotency: { key: `${key}${index}`, fingerprint: Buffer.alloc(32) },
        }),
      )
    await Promise.all(submit('first'))
    statements.length = 0
    const before = countRoundTrips()
    const committed = await Promise.all(submit('second'))
    t.equal(committed.filter(({ kind }) => kind === 'coalesced').length, count)
    t.same(statements, shareStatements)
    t.equal(countRoundTrips() - before, roundTrips.share)
  })

  t.test(`settling ${subject} takes ${settleStatements.length} statements`, async (t) => {
    const drained = await drain(t, count, { settle: writeEffects } as unknown as Handler)
    t.same(drained.statements, settleStatements)
    t.equal(drained.roundTrips, roundTrips.settle)
  })

  t.test(`the settle of ${subject} reads all dependencies with one statement`, async (t) => {
    const settle = async (trx: Transaction<EffectTables>, jobs: SettlingJob<typeof note>[]) => {
      for (const job of jobs) t.same(await job.dependencies(), [])
      await writeEffects(trx, jobs)
    }
    const { statements } = await drain(t, count, { settle } as unknown as Handler)
    const [beforeSettle, afterSettle] = [settleStatements.slice(0, 4), settleStatements.slice(4)]
    const reading = ['select set_config', 'select set_config', 'select accepted.job', 'select set_config']
    t.same(statements, [...beforeSettle, ...reading, ...afterSettle])
  })

  t.test(`settle enqueues a batch of ${subject} with the same number of statements`, async (t) => {
    const settle = async (trx: Transaction<EffectTables>, jobs: SettlingJob<typeof note>[]) => {
      const items = Array.from({ length: count }, () => ({ operation: other, payload: {} }))
      await jobs[0]?.enqueueBatch(trx, { items })
      await writeEffects(trx, jobs)
    }
    const { statements } = await drain(t, 1, { settle } as unknown as Handler)
    const [beforeSettle, afterSettle] = [settleStatements.slice(0, 4), settleStatements.slice(4)]
    const enqueuing = ['insert accepted.job', 'with accepted_queue.job_common', 'select accepted.insert_batch']
    t.same(statements, [...beforeSettle, ...enqueuing, ...afterSettle])
  })

  t.test(`performing and settling ${subject} takes no more statements than settling alone`, async (t) => {
    const handler = { perform: async () => {}, settle: writeEffects, concurrency: count } as unknown as Handler
    const drained = await drain(t, count, handler)
    t.same(drained.statements, settleStatements)
    t.equal(drained.roundTrips, roundTrips.settle)
  })
}

/** Prepares a claim loop that uses a single connection, and records the statements of that connection. */
async function createCountedLoop(t: Test, handler: Handler) {
  const jobs = await openJobs(t, [note, other])
  const { database, statements, countRoundTrips } = openCounted(t, jobs.database)
  const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
  t.teardown(() => boss.stop({ graceful: false }))
  await prepareQueues(database, boss, [note, other])
  // Notifications use other connections, which are not counted.
  const notifier = createNotifier(jobs.database)
  t.teardown(() => notifier.flush())
  const worker = { ...createOperationWorker(t, { database, boss }, note, handler), notifier }
  const start = () =>
    new ClaimLoop(worker, {
      progress: createProgressWriter(database, notifier, () => {}),
      cancellations: createCancellations(database),
      runTimes: createRunTimes(database),
      stopping: new AbortController().signal,
    })
  return { jobs, database, statements, countRoundTrips, start }
}

/** Adds due jobs with keys and runs them. Returns the statements and round trips, but leaves out claims. */
async function drain(t: Test, count: number, handler: Handler): Promise<{ statements: string[]; roundTrips: number }> {
  const { jobs, statements, countRoundTrips, start } = await createCountedLoop(t, handler)
  const ids = await Promise.all(
    Array.from({ length: count }, (_, index) => jobs.add(note, { word: 'x' }, { idempotencyKey: `k${index}` })),
  )
  statements.length = 0
  const before = countRoundTrips()
  const loop = start()
  await until(
    async () =>
      (await jobs.query("select from accepted.job where operation = 'note.create' and status <> 'succeeded'"))
        .length === 0,
  )
  await loop.drain()
  t.equal((await jobs.query('select from effect')).length, ids.length)
  const isClaim = (statement: string) => claimStatements.includes(statement)
  t.ok(statements.filter(isClaim).length <= maxClaims)
  return {
    statements: statements.filter((statement) => !isClaim(statement)),
    roundTrips: countRoundTrips() - before - countRoundTrips(isClaim),
  }
}

for (const kind of ['settled', 'performed']) {
  t.test(`a ${kind} job reads few rows of full tables, even with plans that were made for empty tables`, async (t) => {
    let settleCount = 0
    const settle = async (...args: Parameters<typeof writeEffects>) => {
      await writeEffects(...args)
      settleCount += 1
    }
    const perform = kind === 'performed' ? { perform: async () => {} } : {}
    const { jobs, database, start } = await createCountedLoop(t, { ...perform, settle } as unknown as Handler)
    await analyzeOnce(jobs)
    const loop = start()
    const runTenJobs = async (word: string) => {
      for (let count = 0; count < 10; count++) {
        const before = settleCount
        await jobs.add(note, { word }, { idempotencyKey: `${word}${count}` })
        loop.wake()
        // This does not query the status, because the rows that the query reads would be counted too.
        await until(() => settleCount > before && loop.active().length === 0)
      }
    }
    await runTenJobs('early')
    await addEndedJobs(jobs)
    const before = await countReadRows(database)
    await runTenJobs('late')
    const read = subtract(await countReadRows(database), before)
    await loop.drain()
    t.ok(areFew(read), `10 jobs read ${JSON.stringify(read)}`)
  })
}

t.test('a running job reads few rows of full tables, even with plans that were made for empty tables', async (t) => {
  const { jobs, database } = await createCountedLoop(t, { settle: async () => {} } as unknown as Handler)
  await analyzeOnce(jobs)
  const id = await jobs.add(note, { word: 'long' })
  const claims = await new Claims(database, jobs.boss, note).claim(1)
  await jobs.query("update accepted.job set status = 'running', attempt = 1 where id = $1", [id])
  const notifier = createNotifier(database)
  let written = Promise.withResolvers<void>()
  const notify: typeof notifier.notify = (...notification) => {
    notifier.notify(...notification)
    written.resolve()
  }
  const progress = createProgressWriter(database, { ...notifier, notify }, () => {})
  const reportProgress = progress.begin({ id, attempt: 1, percent: null })
  const report = async (percent: number) => {
    await sendHeartbeats(database, [{ name: note.name, claims }])
    written = Promise.withResolvers()
    reportProgress(percent)
    await written.promise
    await notifier.flush()
  }
  for (let percent = 0; percent < 10; percent++) await report(percent)
  await addEndedJobs(jobs)
  const before = await countReadRows(database)
  for (let percent = 10; percent < 20; percent++) await report(percent)
  const read = subtract(await countReadRows(database), before)
  t.ok(areFew(read), `10 reports read ${JSON.stringify(read)}`)
  t.match(await jobs.read(id), { percent: 19 })
})

/**
 * Analyzes the empty tables, and switches off autovacuum. As a result, Postgres makes later plans with these statistics,
 * and no background process reads the tables.
 */
async function analyzeOnce(jobs: Jobs): Promise<void> {
  for (const { name } of await jobs.query(tables)) {
    await jobs.query(`alter table ${name} set (autovacuum_enabled = off)`)
    await jobs.query(`analyze ${name}`)
  }
}

/** Adds 2,000 failed jobs. The queue keeps the rows of failed jobs; it deletes the rows of succeeded jobs. */
async function addEndedJobs(jobs: Jobs): Promise<void> {
  const database = openDatabase({ ...jobs.database.options, applicationName: 'fill', poolSize: 1 })
  const entries = Array.from({ length: 2_000 }, () => ({
    ...{ id: uuid7(), operation: note, payload: { word: 'x' }, principal: 'ann' },
  }))
  await database.kysely.transaction().execute((trx) => enqueue(jobs.boss, trx, entries))
  await database.pool.query(
    "update accepted_queue.job set state = 'failed', completed_on = now() where state = 'created'",
  )
  await database.pool.query(`
    update accepted.job set status = 'failed', ended_at = now(), error = '{"code": "handler-error"}'
    where status = 'queued'`)
  await database.close()
  // When a backend exits, it adds the rows that it has read to the statistics.
  const backend = "select from pg_stat_activity where application_name = 'fill' and datname = current_database()"
  await until(async () => (await jobs.query(backend)).length === 0)
}

const tables = `
  select oid::regclass as name from pg_class
  where relkind = 'r' and relnamespace in ('accepted'::regnamespace, 'accepted_queue'::regnamespace)`

/** Counts the rows that were read so far, by table. The database must use a single connection. */
async function countReadRows({ pool }: Database): Promise<Map<string, number>> {
  await pool.query('select pg_stat_force_next_flush()')
  const { rows } = await pool.query(`
    select relname as name, (seq_tup_read + coalesce(idx_tup_fetch, 0))::integer as read
    from pg_stat_user_tables where relid in (select name from (${tables}) as ours)`)
  return new Map(rows.map(({ name, read }) => [name, read]))
}

/** Subtracts the counts table by table, and leaves out tables without a difference. */
const subtract = (after: Map<string, number>, before: Map<string, number>): Record<string, number> =>
  Object.fromEntries(
    [...after].map(([name, read]) => [name, read - (before.get(name) ?? 0)] as const).filter(([, read]) => read > 0),
  )

const maxReadRows = 500
const areFew = (readRows: Record<string, number>) => Object.values(readRows).every((count) => count < maxReadRows)
