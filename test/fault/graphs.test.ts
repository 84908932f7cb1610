import { type AbandonedJob, defineOperation, type Operation } from 'accepted'
import { defineHandlers, JobFailed, RetryAfter, type SettlingJob, type Worker } from 'accepted/worker'
import fc from 'fast-check'
import { sql, type Transaction } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { cancelJob } from '../../src/jobs/cancel.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { insertBatch } from '../../src/jobs/enqueue-batch.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'
import { checkGraphs, type Doing, type Known, type KnownBatch, type Outcome } from './graph-checks.ts'

// Runs random graphs of jobs while random jobs are canceled and retried, connections are cut and workers are stopped.
// Then every job must have ended for a stated reason. With GRAPH_SECONDS, runs
// further seeds for so long.
const runCount = Number(process.env.GRAPH_RUNS ?? 3)
const seed = Number(process.env.GRAPH_SEED ?? Date.now() % 2 ** 31)
const seconds = Number(process.env.GRAPH_SECONDS ?? 0)

/** A job of a graph. Its payload is this tree, so that a handler knows what to do. */
interface Tree {
  name: 'settle' | 'settle-kept' | 'perform' | 'perform-kept'
  does: Doing
  /** How often `abandon` throws. */
  abandonThrows: number
  children: Tree[]
  /** Chooses jobs to wait for among the siblings, the jobs of other trees, and jobs that have ended. */
  waitsFor: number[]
  onFailure: 'cancel' | 'run'
}

interface Root {
  tree: Tree
  /** Whether the children of the tree become a batch. */
  batch: 'no' | 'code' | 'sql'
  allowFailures: boolean
  hasOnEnd: boolean
}

/** What happens when so many jobs of the round have ended. */
interface Fault {
  ended: number
  what: 'cancel in SQL' | 'cancel over HTTP' | 'retry' | 'cut a connection' | 'stop a worker'
  n: number
}

const doings: Doing[] = ['fail', 'fail once', 'fail unless retried', 'JobFailed', 'RetryAfter']
const doing = fc.oneof(
  { weight: 12, arbitrary: fc.constant<Doing>('succeed') },
  { weight: 6, arbitrary: fc.constantFrom(...doings) },
  { weight: 1, arbitrary: fc.constant<Doing>('time out') },
)

/** @param levels how many levels of children the tree may have */
const treeOf = (levels: number): fc.Arbitrary<Tree> =>
  fc.record({
    name: fc.constantFrom('settle', 'settle', 'settle-kept', 'perform', 'perform-kept'),
    does: doing,
    abandonThrows: fc.constantFrom(0, 0, 0, 0, 1),
    children: levels === 0 ? fc.constant([]) : fc.array(treeOf(levels - 1), { maxLength: 4, size: 'max' }),
    waitsFor: fc.oneof({ weight: 2, arbitrary: fc.constant<number[]>([]) }, fc.array(fc.nat(1000), { maxLength: 3 })),
    onFailure: fc.constantFrom('cancel', 'run'),
  })

const root: fc.Arbitrary<Root> = fc.record({
  tree: fc.integer({ min: 0, max: 3 }).chain(treeOf),
  batch: fc.constantFrom('no', 'no', 'code', 'sql'),
  allowFailures: fc.boolean(),
  hasOnEnd: fc.boolean(),
})

const fault: fc.Arbitrary<Fault> = fc.record({
  ended: fc.nat(120),
  what: fc.oneof(
    ...(
      [
        [8, 'cancel in SQL'],
        [8, 'cancel over HTTP'],
        [12, 'retry'],
        [4, 'cut a connection'],
        [1, 'stop a worker'],
      ] as const
    ).map(([weight, what]) => ({ weight, arbitrary: fc.constant(what) })),
  ),
  n: fc.nat(1000),
})

interface Round {
  roots: Root[]
  faults: Fault[]
}

/** The graphs of a round run at the same time, so that they meet in the workers. */
const round: fc.Arbitrary<Round> = fc.record({
  roots: fc.array(root, { minLength: 1, maxLength: 24, size: 'max' }),
  faults: fc.array(fault, { maxLength: 30, size: 'max' }),
})

interface Tables {
  outcome: Outcome
}

/** What the handlers and the test know of the jobs of a round. */
const known = {
  /** The ids of all roots. */
  roots: [] as string[],
  /** The ids of jobs of earlier rounds. */
  ended: [] as string[],
  jobs: new Map<string, Known>(),
  batches: new Map<string, KnownBatch>(),
  /** The root of each job. */
  rootOf: new Map<string, string>(),
  /** How often `abandon` still throws. */
  abandonThrows: new Map<string, number>(),
  /** Jobs that have thrown RetryAfter. */
  waited: new Set<string>(),
}

function know(id: string, root: string, tree: Tree, after: readonly string[]): void {
  known.rootOf.set(id, root)
  known.jobs.set(id, {
    ...{ does: tree.does, performs: tree.name.startsWith('perform'), hasAbandon: tree.name.endsWith('-kept') },
    ...{ childCount: tree.children.length, after, onFailure: tree.onFailure },
  })
}

/** Chooses ids of jobs that exist. Leaves out the own root, because a cycle is refused. Other cycles are possible. */
function chooseAwaited({ waitsFor }: Tree, siblings: readonly string[], root?: string): string[] {
  const all = [...siblings, ...siblings, ...known.roots.filter((id) => id !== root), ...known.ended]
  return all.length === 0 ? [] : [...new Set(waitsFor.map((n) => all[n % all.length] as string))]
}

async function record(trx: Transaction<Tables>, jobs: readonly { id: string }[], kind: string): Promise<void> {
  for (const { id } of jobs) {
    await sql`insert into outcome (job_id, kind, xid) values (${id}, ${kind}, pg_current_xact_id())`.execute(trx)
  }
}

async function abandon(trx: Transaction<Tables>, jobs: AbandonedJob<Tree>[]): Promise<void> {
  for (const job of jobs) await record(trx, [job], job.status)
  for (const { id, payload } of jobs) {
    const left = known.abandonThrows.get(id) ?? payload.abandonThrows
    known.abandonThrows.set(id, left - 1)
    if (left > 0) throw new Error('abandon fails')
  }
}

const input = Type.Any()
const common = { input, retry: { limit: 1, delaySeconds: 0, backoff: false }, heartbeatSeconds: 10 }
const operations = {
  settle: defineOperation({ ...common, name: 'node.settle' }),
  settleKept: defineOperation({ ...common, name: 'node.settle-kept', abandon }),
  perform: defineOperation({ ...common, name: 'node.perform', timeoutSeconds: 2 }),
  performKept: defineOperation({ ...common, name: 'node.perform-kept', timeoutSeconds: 2, abandon }),
  onEnd: defineOperation({ ...common, name: 'node.on-end' }),
}
const byName = new Map<string, Operation>(Object.values(operations).map((one) => [one.name, one]))
const operationOf = ({ name }: Tree) => byName.get(`node.${name}`) as Operation

/** A retry has the id of the first job as its key. */
const isRetry = ({ id, idempotencyKey }: SettlingJob) => idempotencyKey !== id

function throwAsTold(job: SettlingJob): void {
  const { does } = job.payload as Tree
  if (does === 'fail' || (does === 'fail once' && job.attempt === 1)) throw new Error('told to fail')
  if (does === 'fail unless retried' && !isRetry(job)) throw new JobFailed('told', 'Told to fail')
  if (does === 'JobFailed') throw new JobFailed('told', 'Told to fail')
  if (does === 'RetryAfter' && !known.waited.has(job.id)) {
    known.waited.add(job.id)
    throw new RetryAfter(0)
  }
}

async function settle(trx: Transaction<Tables>, jobs: SettlingJob[]): Promise<void> {
  for (const job of jobs) {
    const tree = job.payload as Tree
    throwAsTold(job)
    await record(trx, [job], 'settled')
    const siblings: string[] = []
    // A retry belongs to the tree of the job that it retries.
    const root = known.rootOf.get(job.id) ?? known.rootOf.get(job.idempotencyKey) ?? job.id
    for (const child of tree.children) {
      const after = chooseAwaited(child, siblings, root)
      const options = { child: true, after, onFailure: child.onFailure }
      const id = await job.enqueue(trx, operationOf(child), child as never, options)
      know(id, root, child, after)
      siblings.push(id)
    }
  }
}

async function perform(job: { payload: unknown; signal: AbortSignal }): Promise<void> {
  if ((job.payload as Tree).does !== 'time out') return
  await new Promise((resolve) => job.signal.addEventListener('abort', resolve))
}

const handlers = defineHandlers(operations, {
  'node.settle': { settle, batchSize: 5 },
  'node.settle-kept': { settle, batchSize: 5 },
  'node.perform': { perform, settle, concurrency: 5 },
  'node.perform-kept': { perform, settle, concurrency: 5 },
  'node.on-end': { settle: (trx, jobs) => record(trx, jobs, 'settled') },
})

/** Enqueues the roots in one transaction, so that each of them can wait for any earlier one. */
async function enqueueRoots({ database, boss }: Jobs, roots: readonly Root[]): Promise<void> {
  known.roots = []
  await database.kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    for (const { tree, batch, allowFailures, hasOnEnd } of roots) {
      const after = chooseAwaited(tree, [])
      const onEnd = hasOnEnd ? { operation: operations.onEnd, payload: {} } : undefined
      const items = tree.children.map((child) => ({ id: uuid7(), operation: operationOf(child), payload: child }))
      let id = uuid7()
      if (batch === 'code' && items.length > 0) {
        const children = items.map((item, index) => {
          const siblings = items.slice(0, index).map(({ id }) => id)
          const after = chooseAwaited(item.payload, siblings)
          know(item.id, id, item.payload, after)
          return { ...item, after, onFailure: item.payload.onFailure }
        })
        await insertBatch(trx, { id, principal: 'ann', children, onEnd, allowFailures })
      } else if (batch === 'sql' && items.length > 0) {
        const list = items.map(({ operation, payload }) => ({ operation: operation.name, payload }))
        const end = onEnd ? JSON.stringify({ operation: onEnd.operation.name }) : null
        const { rows } = await sql<{ id: string }>`
          select accepted.enqueue_batch(${JSON.stringify(list)}::jsonb, ${end}::jsonb, ${allowFailures}, 'ann') as id
          `.execute(trx)
        id = rows[0]?.id as string
        const made = await sql<{ id: string; payload: Tree }>`
          select job.id, queued.data -> 'payload' as payload
          from accepted.job join accepted_queue.job queued on queued.id = job.id where job.parent = ${id}`.execute(trx)
        for (const child of made.rows) know(child.id, id, child.payload, [])
      } else {
        know(id, id, tree, after)
        const job = { id, operation: operationOf(tree), payload: tree, principal: 'ann' }
        await enqueue(boss, trx, [{ ...job, after, onFailure: tree.onFailure }])
      }
      if (batch !== 'no') known.batches.set(id, { childCount: items.length, allowFailures, hasOnEnd })
      known.roots.push(id)
    }
  })
}

interface Stage extends Jobs {
  workers: Worker[]
  startWorker(): Promise<Worker>
  /** Runs a statement as a superuser. Its connection is never cut. */
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  control(text: string, values?: unknown[]): Promise<any[]>
}

async function setUp(t: Test): Promise<Stage> {
  const jobs = await openJobs(t, Object.values(operations))
  await jobs.query('create table outcome (job_id uuid not null, kind text not null, xid xid8 not null)')
  const client = new pg.Client({ connectionString: jobs.database.options.url, application_name: 'control' })
  await client.connect()
  t.teardown(() => client.end())
  // Whatever the commit of an end has missed must stay missed, so these tasks must not find it.
  await client.query("select pg_advisory_lock(hashtext('accepted.resolve_missed'))")
  await client.query("update accepted.reconciliation set compared_at = 'infinity'")
  // A deadlock must not take as long as the timeout of a job.
  await client.query(`alter database ${client.database} set deadlock_timeout = '50ms'`)
  if (process.env.GRAPH_LOG) await client.query(`alter database ${client.database} set log_min_messages = 'warning'`)
  const stage: Stage = {
    ...jobs,
    workers: [],
    startWorker: () => jobs.work(handlers, { graceSeconds: 0 }),
    control: async (text, values) => (await client.query(text, values)).rows,
  }
  for (let n = 0; n < 2; n++) stage.workers.push(await stage.startWorker())
  return stage
}

/** How often each fault has happened. */
const faultCounts = new Map<string, number>()
/** Errors that a cancel or a retry may get, because the job has changed in the meantime, or a deadlock. */
const expectedErrors = ['55000', 'P0002', '40P01', '40001']

async function cause({ what, n }: Fault, stage: Stage, canceled: Set<string>): Promise<void> {
  const pick = async (condition: string) => {
    const rows = await stage.control(`select id from accepted.job where ${condition} order by id`)
    return rows.length === 0 ? undefined : (rows[n % rows.length].id as string)
  }
  const ignoreExpected = (error: { code?: string }) => {
    if (!expectedErrors.includes(error.code ?? '')) throw error
  }
  if (what === 'cancel in SQL' || what === 'cancel over HTTP') {
    const id = await pick('ended_at is null')
    if (!id) return
    canceled.add(id)
    if (what === 'cancel in SQL') await stage.control('select accepted.cancel($1)', [id]).catch(ignoreExpected)
    else {
      const work = stage.database.kysely.transaction()
      await work.execute((trx) => cancelJob(trx as never, { id, principal: 'ann' })).catch(ignoreExpected)
    }
  } else if (what === 'retry') {
    const id = (await pick("status in ('failed', 'canceled') and operation <> 'batch' and parent is not null")) ?? ''
    if (!id) return
    await stage.control('select accepted.retry($1)', [id]).catch(ignoreExpected)
  } else if (what === 'cut a connection') {
    await stage.control(
      `select pg_terminate_backend(pid) from (
        select pid from pg_stat_activity where datname = current_database() and application_name like 'accepted worker%'
        order by pid offset $1 limit 1
      ) chosen`,
      [n % 12],
    )
  } else {
    const worker = stage.workers.shift() as Worker
    await worker.stop()
    stage.workers.push(await stage.startWorker())
  }
  faultCounts.set(what, (faultCounts.get(what) ?? 0) + 1)
}

const readPending = `
  select job.id, job.operation, job.status, job.parent, job.waiting_for, job.cancel_requested, queued.state, queued.blocked,
    parent.first_pending, ending.last_error
  from accepted.job left join accepted_queue.job queued on queued.name = job.operation and queued.id = job.id
  left join accepted.parent on parent.job_id = job.id left join accepted.ending on ending.job_id = job.id
  where job.ended_at is null order by job.id`

/** The number of jobs that have ended in all rounds. */
let jobCount = 0
let graphCount = 0

async function runRound(stage: Stage, { roots, faults }: Round): Promise<void> {
  const canceled = new Set<string>()
  await enqueueRoots(stage, roots)
  const pending = async () => {
    const [row] = await stage.control(`
      select count(*) filter (where ended_at is null)::int as pending, count(ended_at)::int as ended from accepted.job`)
    return row as { pending: number; ended: number }
  }
  /** Waits until so many jobs have ended, or all of them. */
  const hasEnded = (count: number) =>
    until(async () => {
      const { pending: left, ended } = await pending()
      return left === 0 || ended >= count
    }).catch(async () => {
      throw new Error(
        `Jobs have not ended: ${(await stage.control(readPending)).map((row) => JSON.stringify(row)).join('\n')}`,
      )
    })
  for (const fault of faults.toSorted((a, b) => a.ended - b.ended)) {
    await hasEnded(fault.ended)
    await cause(fault, stage, canceled)
  }
  await hasEnded(Number.POSITIVE_INFINITY)
  // If a worker ends a job whose end is decided, the decision is deleted some time later.
  await until(async () => (await stage.control('select from accepted.ending')).length === 0)
  const findings = await checkGraphs(stage.control, {
    ...{ canceled, endedBefore: new Set(known.ended), jobs: known.jobs, batches: known.batches },
  })
  graphCount += roots.length
  jobCount += (await pending()).ended
  if (findings.length > 0) throw new Error(findings.join('\n'))
  await clear(stage)
}

/** Deletes the jobs, but keeps two of each status to wait for. */
async function clear(stage: Stage): Promise<void> {
  const kept = await stage.control(`
    select id from (
      select id, row_number() over (partition by status order by id desc) as number from accepted.job
      where operation <> 'batch' and parent is null and retry_of is null and children is null
    ) job where number <= 2`)
  known.ended = kept.map(({ id }) => id)
  for (const one of [known.jobs, known.batches, known.rootOf, known.abandonThrows, known.waited]) one.clear()
  await stage.control('delete from accepted.job where id <> all($1)', [known.ended])
  await stage.control('delete from outcome where job_id <> all($1)', [known.ended])
  await stage.control('delete from accepted_queue.job')
  await stage.control('truncate accepted.attempt, accepted.processed_key, accepted.change, accepted.ended_job')
}

t.test(`every job of a random graph ends for a stated reason (seed ${seed})`, async (t) => {
  const stage = await setUp(t)
  const deadline = performance.now() + seconds * 1000
  const property = fc.asyncProperty(round, async (one) => {
    await runRound(stage, one).catch((error) => {
      t.comment(error.message)
      throw error
    })
  })
  let nextSeed = seed
  do {
    await t.resolves(fc.assert(property, { numRuns: runCount, seed: nextSeed, endOnFailure: true }), `seed ${nextSeed}`)
    nextSeed += 1
  } while (t.passing() && performance.now() < deadline)
  const [{ deadlocks }] = await stage.control(
    'select deadlocks::int from pg_stat_database where datname = current_database()',
  )
  const counts = [...faultCounts].map(([what, count]) => `${count} × ${what}`)
  t.comment(`${graphCount} graphs, ${jobCount} jobs, ${deadlocks} deadlocks, ${counts.join(', ')}`)
})
