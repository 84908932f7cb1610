// What requests and jobs cost, in statements and round trips: a hundred as many as one.
import { defineOperation } from 'accepted'
import type { Transaction } from 'kysely'
import pg from 'pg'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import type { AcceptEntry } from '../src/accept/accept.ts'
import { createCommitter } from '../src/accept/committer.ts'
import { createTurns } from '../src/accept/turns.ts'
import { prepareQueues, startBoss } from '../src/db/boss.ts'
import { TracedClient } from '../src/db/client.ts'
import { type Database, openDatabase } from '../src/db/database.ts'
import { createNotifier } from '../src/db/notifier.ts'
import { enqueue } from '../src/jobs/enqueue.ts'
import { createCancellations } from '../worker/cancellations.ts'
import { createClaims } from '../worker/claim.ts'
import type { Handler } from '../worker/handlers.ts'
import { startLoop } from '../worker/loop.ts'
import { createMetrics } from '../worker/metrics.ts'
import { createProgress } from '../worker/progress.ts'
import { createRunTimes } from '../worker/run-times.ts'
import { touch } from '../worker/vital-signs.ts'
import { openJobs } from './support/jobs.ts'
import { until } from './support/until.ts'

type Tables = { effect: { job_id: string; word: string } }

const write = (trx: Transaction<Tables>, ids: readonly string[]) =>
  trx
    .insertInto('effect')
    .values(ids.map((id) => ({ job_id: id, word: 'x' })))
    .execute()

const note = defineOperation({
  name: 'note.create',
  input: Type.Object({ word: Type.String() }),
  accept: async (trx: Transaction<Tables>, entries) => {
    await write(
      trx,
      entries.map(({ id }) => id),
    )
    return entries.map(({ input }) => ({ payload: input }))
  },
})

/** What a statement does, and to what. */
function describe(text: string): string {
  const [verb = ''] = text.trim().split(/\W/, 1)
  const [, table] = text.match(/(?:insert into|update|from|join) "?((?:accepted|pgboss)\.\w+|effect)/i) ?? []
  const [, called] = text.match(/^\s*select (\w+)\(/) ?? []
  return `${verb.toLowerCase()} ${table ?? called ?? ''}`.trim()
}

const accepted = [
  'begin',
  'with accepted.idempotency_key',
  'insert effect',
  'insert accepted.job',
  'insert pgboss.job_common',
  'commit',
]
/** One that is full says that there may be more, and then older ones. */
const mostClaims = 3
const claim = 'select accepted.claim'
/** The last is answered without being sent, as nothing is left to commit. */
const begun = ['begin', 'select set_config', 'select accepted.job', 'update accepted.job', 'commit', 'commit']
const settled = [
  'begin',
  'select set_config',
  'with accepted.processed_key',
  'select set_config',
  'insert effect',
  'select set_config',
  'update accepted.job',
  'set',
  'with pgboss.job_common',
  'commit',
]

const trips = { accepted: 4, begun: 1, settled: 4 }

interface Counted {
  database: Database
  /** The statements that are sent on it from then on. */
  sent: string[]
  /** And how many round trips they, or some of them, take. */
  trips(of?: (statement: string) => boolean): number
}

/** A database of its own application. */
function openCounted(t: Test, { options }: Database): Counted {
  const applicationName = `counted ${uuid7()}`
  const database = openDatabase({ ...options, applicationName, poolSize: 1 })
  t.teardown(() => database.close())
  const sent: string[] = []
  const tripped: string[] = []
  const listen = (prototype: pg.Client, list: string[]) => {
    const { query } = prototype
    // biome-ignore lint/suspicious/noExplicitAny: pg's query is overloaded eight ways
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
  listen(TracedClient.prototype, sent)
  listen(pg.Client.prototype, tripped)
  return { database, sent, trips: (of = () => true) => tripped.filter(of).length }
}

for (const count of [1, 100]) {
  t.test(`accepting ${count} with keys, at once`, async (t) => {
    const jobs = await openJobs(t, [note])
    const { database, sent, trips: tripped } = openCounted(t, jobs.database)
    const committer = createCommitter({ database, boss: jobs.boss, turns: createTurns() })
    const entries = Array.from({ length: count }, (_, index): AcceptEntry => {
      const idempotency = { key: `k${index}`, fingerprint: Buffer.alloc(32) }
      return { id: uuid7(), operation: note, input: { word: 'x' }, params: {}, principal: 'ann', idempotency }
    })
    const committed = await Promise.all(entries.map((entry) => committer.submit(entry)))
    t.equal(committed.filter(({ kind }) => kind === 'accepted').length, count)
    t.same(sent, accepted)
    t.equal(tripped(), trips.accepted)
  })

  t.test(`claiming and settling ${count}`, async (t) => {
    const drained = await drain(t, count, { settle } as unknown as Handler)
    t.same(drained.sent, settled)
    t.equal(drained.trips, trips.settled)
  })

  t.test(`claiming, performing and settling ${count}`, async (t) => {
    const performs = { perform: async () => {}, settle, concurrency: count } as unknown as Handler
    const drained = await drain(t, count, performs)
    t.same(drained.sent, [...begun, ...settled])
    t.equal(drained.trips, trips.begun + trips.settled)
  })
}

const settle = async (trx: Transaction<Tables>, all: readonly { id: string }[]) =>
  void (await write(
    trx,
    all.map(({ id }) => id),
  ))

/** A loop that claims jobs and runs them, over one connection of its own application, and the statements it sends. */
async function startCounted(t: Test, handler: Handler) {
  const jobs = await openJobs(t, [note])
  const { database, sent, trips } = openCounted(t, jobs.database)
  const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
  t.teardown(() => boss.stop({ graceful: false }))
  await prepareQueues(boss, [note])
  const log = pino({ level: 'silent' })
  const hints = createNotifier(jobs.database)
  t.teardown(() => hints.flush())
  const start = () =>
    startLoop(
      {
        ...{ operation: note, handler, database, boss, hints, log },
        claims: createClaims(database, boss, note),
        metrics: createMetrics(database, { operations: [], running: () => 0, isListening: () => false }),
      },
      {
        progress: createProgress(database, hints, log),
        cancellations: createCancellations(database),
        runTimes: createRunTimes(database),
        stopping: new AbortController().signal,
      },
    )
  const ended = () =>
    until(async () => (await jobs.query("select from accepted.job where state <> 'succeeded'")).length === 0)
  return { jobs, database, sent, trips, start, ended }
}

/** Runs jobs with keys that are due, all at once, and answers what that took beside a few claims. */
async function drain(t: Test, count: number, handler: Handler): Promise<{ sent: string[]; trips: number }> {
  const { jobs, sent, trips, start, ended } = await startCounted(t, handler)
  const ids = await Promise.all(
    Array.from({ length: count }, (_, index) => jobs.add(note, { word: 'x' }, { idempotencyKey: `k${index}` })),
  )
  sent.length = 0
  const before = trips()
  const loop = start()
  await ended()
  await loop.drain()
  t.equal((await jobs.query('select from effect')).length, ids.length)
  const isClaim = (statement: string) => statement === claim
  t.ok(sent.filter(isClaim).length <= mostClaims)
  return { sent: sent.filter((statement) => !isClaim(statement)), trips: trips() - before - trips(isClaim) }
}

for (const name of ['settled', 'performed']) {
  t.test(`what is read of a job that is ${name}, by plans made while there was nothing, does not grow`, async (t) => {
    let settles = 0
    const settleOne = async (...given: Parameters<typeof settle>) => {
      await settle(...given)
      settles += 1
    }
    const perform = name === 'performed' ? { perform: async () => {} } : {}
    const { jobs, database, start } = await startCounted(t, { ...perform, settle: settleOne } as unknown as Handler)
    await analyze(jobs)
    const loop = start()
    const runSome = async (word: string) => {
      for (let count = 0; count < 10; count++) {
        const before = settles
        await jobs.add(note, { word }, { idempotencyKey: `${word}${count}` })
        loop.wake()
        // Whoever asked Postgres would be counted.
        await until(async () => settles > before && loop.held().length === 0)
      }
    }
    await runSome('early')
    await fill(jobs)
    const before = await readRows(database)
    await runSome('late')
    const read = readSince(before, await readRows(database))
    await loop.drain()
    t.ok(fewRows(read), `for 10 jobs: ${JSON.stringify(read)}`)
  })
}

t.test('what is read of a job that is held, by plans made while there was nothing, does not grow', async (t) => {
  const { jobs, database } = await startCounted(t, { settle: async () => {} } as unknown as Handler)
  await analyze(jobs)
  const id = await jobs.add(note, { word: 'long' })
  const claims = await createClaims(database, jobs.boss, note).claim(1)
  await jobs.query("update accepted.job set state = 'running', attempt = 1 where id = $1", [id])
  const hints = createNotifier(database)
  let onWritten = () => {}
  const notify: typeof hints.notify = (...hint) => {
    hints.notify(...hint)
    onWritten()
  }
  const progress = createProgress(database, { ...hints, notify }, pino({ level: 'silent' }))
  const report = async (percent: number) => {
    await touch(database, [{ name: note.name, claims }])
    const written = new Promise<void>((resolve) => {
      onWritten = resolve
    })
    progress.report({ id, attempt: 1 }, percent)
    await written
    await hints.flush()
  }
  for (let percent = 0; percent < 10; percent++) await report(percent)
  await fill(jobs)
  const before = await readRows(database)
  for (let percent = 10; percent < 20; percent++) await report(percent)
  const read = readSince(before, await readRows(database))
  t.ok(fewRows(read), `for 10 reports: ${JSON.stringify(read)}`)
  t.match(await jobs.read(id), { percent: 19 })
})

type Jobs = Awaited<ReturnType<typeof openJobs>>

/** As a queue that was looked over while it was idle, and never again: nobody else is to read anything. */
async function analyze(jobs: Jobs): Promise<void> {
  for (const { name } of await jobs.query(tables)) {
    await jobs.query(`alter table ${name} set (autovacuum_enabled = off)`)
    await jobs.query(`analyze ${name}`)
  }
  const summarized = `
    select oid::regclass as name from pg_class
    where relkind = 'i' and relnamespace = 'accepted'::regnamespace and 'autosummarize=on' = any(reloptions)`
  for (const { name } of await jobs.query(summarized)) await jobs.query(`alter index ${name} set (autosummarize = off)`)
}

/** Adds jobs that have ended. */
async function fill(jobs: Jobs): Promise<void> {
  const database = openDatabase({ ...jobs.database.options, applicationName: 'fill', poolSize: 1 })
  const many = Array.from({ length: 2_000 }, () => ({
    ...{ id: uuid7(), operation: note, payload: { word: 'x' }, principal: 'ann' },
  }))
  await database.kysely.transaction().execute((trx) => enqueue(jobs.boss, trx, many))
  await database.pool.query("update pgboss.job set state = 'completed', completed_on = now() where state = 'created'")
  await database.pool.query("update accepted.job set state = 'succeeded', ended_at = now() where state = 'queued'")
  await database.close()
  // It counts what it has read when it ends.
  const backend = "select from pg_stat_activity where application_name = 'fill' and datname = current_database()"
  await until(async () => (await jobs.query(backend)).length === 0)
}

const tables = `
  select oid::regclass as name from pg_class
  where relkind = 'r' and relnamespace in ('accepted'::regnamespace, 'pgboss'::regnamespace)`

/** How many rows of each table have been read, by its one connection up to now. */
async function readRows({ pool }: Database): Promise<Map<string, number>> {
  await pool.query('select pg_stat_force_next_flush()')
  const { rows } = await pool.query(`
    select relname as name, (seq_tup_read + coalesce(idx_tup_fetch, 0))::integer as read
    from pg_stat_user_tables where relid in (select name from (${tables}) as ours)`)
  return new Map(rows.map(({ name, read }) => [name, read]))
}

/** Of each table of which more has been read since. */
const readSince = (before: Map<string, number>, now: Map<string, number>) =>
  Object.fromEntries(
    [...now].map(([name, read]) => [name, read - (before.get(name) ?? 0)] as const).filter(([, read]) => read > 0),
  )

const fewRows = (read: Record<string, number>) => Object.values(read).every((count) => count < 500)
