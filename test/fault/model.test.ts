import { defineOperation } from 'accepted'
import { JobFailed, RetryAfter } from 'accepted/worker'
import fc from 'fast-check'
import type { Transaction } from 'kysely'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { retryJob } from '../../src/accept/retry.ts'
import { createNotifier } from '../../src/db/notifier.ts'
import { cancelJob } from '../../src/jobs/cancel.ts'
import { createCancellations } from '../../worker/cancellations.ts'
import { type Claim, createClaims } from '../../worker/claim.ts'
import type { PerformHandler, PerformingJob, SettlingJob } from '../../worker/handlers.ts'
import type { Lane } from '../../worker/lane.ts'
import { createMetrics } from '../../worker/metrics.ts'
import { createProgress } from '../../worker/progress.ts'
import { type RunContext, runEach } from '../../worker/run.ts'
import { createRunTimes } from '../../worker/run-times.ts'
import { createSettling } from '../../worker/settling.ts'
import { enterSweeps, takeBackSilent } from '../../worker/silent.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

/** Walks through the state machine; a longer run is a number in the environment. */
const runs = Number(process.env.MODEL_RUNS ?? 10)
const seed = Number(process.env.MODEL_SEED ?? Date.now() % 2 ** 31)

const operation = defineOperation({
  name: 'word.write',
  input: Type.Object({ word: Type.String() }),
  retry: { limit: 1, delaySeconds: 0, backoff: false },
  heartbeatSeconds: 10,
  timeoutSeconds: 600,
})
const maxAttempts = operation.retry.limit + 1
const operations = new Map([[operation.name, operation]])

/** What a job ought to be. */
interface ModelJob {
  id: string
  key: string | undefined
  state: 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled'
  /** The attempts that are spent, the running one not included. */
  spent: number
  /** Those that were lost with a worker, and are not charged. */
  lost: number
  /** How many workers fell silent with it since it last ended a run; then it runs alone. */
  crashes: number
  percent: number | null
  isCancelRequested: boolean
  hasEffect: boolean
  isExpired: boolean
}

interface Model {
  jobs: Map<string, ModelJob>
  /** The job that had the effect of a key. */
  processed: Map<string, string>
  /** Executions whose handler has not returned, by their job and attempt; those of lost claims as well. */
  executions: { name: string; job: string; isLive: boolean }[]
}

/** An execution that the test holds in its hand. */
interface Execution {
  job: PerformingJob
  finish: PromiseWithResolvers<void>
  /** Resolves when the worker has done with it. */
  ended: Promise<unknown>
}

interface Real extends Jobs {
  lane: Lane
  context: RunContext
  executions: Map<string, Execution>
  /** Claims jobs and starts them; answers those whose handler runs now. */
  claim(limit: number): Promise<Run>
  claimSuspect(id: string): Promise<Run>
}

interface Run {
  claimed: string[]
  performing: string[]
}

const isEnded = ({ state }: ModelJob) => state !== 'queued' && state !== 'running'

async function setUp(t: Test): Promise<Real> {
  const jobs = await openJobs(t, [operation])
  const { database, boss } = jobs
  const log = pino({ level: 'silent' })
  const hints = createNotifier(database)
  const executions = new Map<string, Execution>()
  const handler: PerformHandler<typeof operation> = {
    perform: async (job) => {
      const finish = Promise.withResolvers<void>()
      // One of a lost claim may be told of its end by nobody.
      finish.promise.catch(() => {})
      const name = `${job.id} ${job.attempt}`
      executions.set(name, { job, finish, ended: Promise.resolve() })
      await finish.promise
    },
    settle: async (trx: Transaction<{ effect: { job_id: string; word: string } }>, settling) => {
      const rows = settling.map(({ id, payload }: SettlingJob<typeof operation>) => ({
        job_id: id,
        word: payload.word,
      }))
      await trx.insertInto('effect').values(rows).execute()
    },
  }
  const claims = createClaims(database, boss, operation)
  const metrics = createMetrics(database, { operations: [], running: () => 0, isListening: () => false })
  const lane: Lane = { operation, handler: handler as Lane['handler'], claims, database, boss, hints, metrics, log }
  await enterSweeps(database, [operation.name])
  const progress = createProgress(database, hints, log)
  t.teardown(() => progress.close())
  const context: RunContext = {
    progress,
    cancellations: createCancellations(database),
    runTimes: createRunTimes(database),
    stopping: new AbortController().signal,
  }
  const run = async (claimed: readonly Claim[]): Promise<Run> => {
    const performing: string[] = []
    for (const claim of claimed) {
      const name = `${claim.jobId} ${claim.attempt}`
      executions.delete(name)
      let over = false
      const ended = runEach(lane, [claim], { settling: createSettling(lane, context), ...context }, () => {}).finally(
        () => {
          over = true
        },
      )
      // Its handler runs, or it ended without.
      await until(() => over || executions.has(name))
      const execution = executions.get(name)
      if (execution) Object.assign(execution, { ended })
      if (execution) performing.push(name)
    }
    return { claimed: claimed.map(({ jobId }) => jobId), performing }
  }
  return {
    ...{ ...jobs, lane, context, executions },
    claim: async (limit) => run(await claims.claim(limit)),
    async claimSuspect(id) {
      const claim = await claims.claimSuspect(id)
      return run(claim ? [claim] : [])
    },
  }
}

type Command = fc.AsyncCommand<Model, Real>

/** One of those that a command can be about. */
const pick = <Item>(items: readonly Item[], n: number): Item => items[n % items.length] as Item

/** How often each was given. */
const taken = new Map<string, number>()

/** A command that is about one of several things, and can be given when there is one. */
function about<Item>(
  name: string,
  n: number,
  eligible: (model: Model) => Item[],
  act: (item: Item, model: Model, real: Real) => Promise<void>,
): Command {
  return {
    check: (model) => eligible(model).length > 0,
    async run(model, real) {
      await act(pick(eligible(model), n), model, real)
      taken.set(name, (taken.get(name) ?? 0) + 1)
      await compare(model, real)
    },
    toString: () => `${name}(${n})`,
  }
}

const jobsWhere = (isEligible: (job: ModelJob) => boolean) => (model: Model) =>
  [...model.jobs.values()].filter(isEligible)
const liveExecutions = (model: Model) => model.executions.filter(({ isLive }) => isLive)

/** What an execution leaves behind, when its claim is still its own. */
async function end(
  real: Real,
  model: Model,
  execution: Model['executions'][number],
  how: (finish: PromiseWithResolvers<void>) => void,
  then: (job: ModelJob, model: Model) => void,
): Promise<void> {
  const { finish, ended } = real.executions.get(execution.name) as Execution
  how(finish)
  await ended
  real.executions.delete(execution.name)
  model.executions.splice(model.executions.indexOf(execution), 1)
  const job = model.jobs.get(execution.job) as ModelJob
  if (!execution.isLive) return
  if (job.crashes > 0) await real.query('delete from accepted.suspect where job_id = $1', [job.id])
  job.crashes = 0
  if (job.isCancelRequested) job.state = 'canceled'
  else then(job, model)
}

function succeed(model: Model, job: ModelJob): void {
  const first = job.key === undefined ? undefined : model.processed.get(job.key)
  job.state = 'succeeded'
  job.percent = 100
  if (first !== undefined && first !== job.id && !model.jobs.get(first)?.isExpired) return
  job.hasEffect = true
  if (job.key !== undefined) model.processed.set(job.key, job.id)
}

function spend(job: ModelJob): void {
  job.spent += 1
  job.state = job.spent >= maxAttempts ? 'failed' : 'queued'
}

const submit = (key: string | undefined): Command => ({
  check: () => true,
  async run(model, real) {
    const id = await real.add(operation, { word: 'x' }, { idempotencyKey: key })
    model.jobs.set(id, newJob(id, key))
    await compare(model, real)
  },
  toString: () => `submit(${key})`,
})

const newJob = (id: string, key: string | undefined): ModelJob => ({
  ...{ id, key, state: 'queued', spent: 0, lost: 0, crashes: 0, percent: null },
  ...{ isCancelRequested: false, hasEffect: false, isExpired: false },
})

const claim = (limit: number): Command => ({
  check: () => true,
  async run(model, real) {
    const due = jobsWhere(({ state, crashes }) => state === 'queued' && crashes === 0)(model)
    const run = await real.claim(limit)
    if (run.claimed.length !== Math.min(limit, due.length)) {
      throw new Error(`${run.claimed.length} jobs were claimed of ${due.length} with a limit of ${limit}`)
    }
    for (const id of run.claimed) begin(model, id, run)
    await compare(model, real)
  },
  toString: () => `claim(${limit})`,
})

const claimSuspect = (n: number): Command =>
  about(
    'claim suspect',
    n,
    jobsWhere(({ state, crashes }) => state === 'queued' && crashes > 0),
    async ({ id }, model, real) => {
      const run = await real.claimSuspect(id)
      if (run.claimed.length !== 1) throw new Error(`${id} could not be claimed`)
      begin(model, id, run)
    },
  )

function begin(model: Model, id: string, { performing }: Run): void {
  const job = model.jobs.get(id) as ModelJob
  const name = `${id} ${job.spent + job.lost + 1}`
  if (job.state !== 'queued') throw new Error(`${id} was claimed while it was ${job.state}`)
  if (job.isCancelRequested) job.state = 'canceled'
  else if (performing.includes(name)) {
    job.state = 'running'
    model.executions.push({ name, job: id, isLive: true })
  } else {
    // The effect of its key is there already.
    succeed(model, job)
    if (job.hasEffect) throw new Error(`${id} ended without its handler`)
  }
}

const progress = (n: number, percent: number): Command =>
  about('progress', n, liveExecutions, async ({ name, job: id }, model, real) => {
    real.executions.get(name)?.job.progress(percent)
    const job = model.jobs.get(id) as ModelJob
    job.percent = Math.max(job.percent ?? 0, percent)
    await until(async () => (await real.read(id)).percent === job.percent)
  })

/** Lets an execution end, in its own way; should it still hold the job, that changes so. */
const ending = (
  name: string,
  n: number,
  letEnd: (finish: PromiseWithResolvers<void>) => void,
  change: (job: ModelJob, model: Model) => void,
): Command =>
  about(
    name,
    n,
    ({ executions }) => executions,
    (execution, model, real) => end(real, model, execution, letEnd, change),
  )

const settle = (n: number): Command =>
  ending(
    'settle',
    n,
    ({ resolve }) => resolve(),
    (job, model) => succeed(model, job),
  )

const fail = (n: number): Command => ending('fail', n, ({ reject }) => reject(new Error('no')), spend)

const failForGood = (n: number): Command =>
  ending(
    'fail for good',
    n,
    ({ reject }) => reject(new JobFailed('no', 'No')),
    (job) => {
      job.spent += 1
      job.state = 'failed'
    },
  )

const later = (n: number): Command =>
  ending(
    'later',
    n,
    ({ reject }) => reject(new RetryAfter(0)),
    (job) => {
      job.state = 'queued'
    },
  )

const cancel = (n: number, isHinted: boolean): Command =>
  about(
    `cancel${isHinted ? '' : ' without a hint'}`,
    n,
    jobsWhere(() => true),
    async (job, model, real) => {
      const { kind } = await real.database.kysely
        .transaction()
        .execute((trx) => cancelJob(real.boss, trx as never, { id: job.id, principal: 'ann' }))
      const expected =
        { queued: 'canceled', running: 'requested', canceled: 'canceled' }[job.state as string] ?? 'too-late'
      if (kind !== expected) throw new Error(`Cancel of a job that is ${job.state} answered ${kind}`)
      if (job.state === 'queued') {
        job.state = 'canceled'
        job.isCancelRequested = true
      } else if (job.state === 'running') {
        job.isCancelRequested = true
        if (isHinted) await abort(job, model, real)
      }
    },
  )

async function abort(job: ModelJob, model: Model, real: Real): Promise<void> {
  const execution = model.executions.find((one) => one.isLive && one.job === job.id)
  if (!execution) throw new Error(`${job.id} runs, and nobody executes it`)
  await end(
    real,
    model,
    execution,
    () => real.context.cancellations.hint([job.id]),
    () => {},
  )
}

const retry = (n: number): Command =>
  about(
    'retry',
    n,
    jobsWhere((job) => !job.isExpired),
    async (job, model, real) => {
      const id = uuid7()
      const isRetryable = job.state === 'failed' || job.state === 'canceled'
      const retried = await real.database.kysely
        .transaction()
        .execute((trx) => retryJob(real.boss, trx as never, operations, { id, jobId: job.id, principal: 'ann' }))
        .then(
          () => true,
          ({ code }) => (code === 'job-not-retryable' ? false : Promise.reject(code)),
        )
      if (retried !== isRetryable) throw new Error(`A job that is ${job.state} was ${retried ? '' : 'not '}retried`)
      if (retried) model.jobs.set(id, newJob(id, job.key ?? job.id))
    },
  )

const expire = (n: number): Command =>
  about(
    'expire',
    n,
    jobsWhere((job) => isEnded(job) && !job.isExpired),
    async (job, _model, real) => {
      await real.query("update accepted.job set expires_at = now() - interval '1 second' where id = $1", [job.id])
      job.isExpired = true
    },
  )

/** The worker of an execution falls silent for ever, or for so long that its claim is lost. */
const crash = (n: number): Command =>
  about('crash', n, liveExecutions, async (execution, model, real) => {
    await real.query(
      `update pgboss.job set heartbeat_on = now() - interval '1 hour' where name = $1 and id = $2 and state = 'active'`,
      [operation.name, execution.job],
    )
    // By itself, and long after the one before.
    await real.query(`
      update pgboss.job set heartbeat_on = now() where state = 'active' and id <> '${execution.job}';
      update accepted.suspect set crashed_at = now() - interval '1 minute';
      update accepted.sweep set swept_at = '-infinity'`)
    await takeBackSilent(real.database, [real.lane])
    execution.isLive = false
    const job = model.jobs.get(execution.job) as ModelJob
    if (job.isCancelRequested) {
      job.state = 'canceled'
      return
    }
    job.crashes += 1
    job.lost += 1
    job.state = job.crashes === 3 ? 'failed' : 'queued'
  })

const inQueue: Record<ModelJob['state'], string[]> = {
  queued: ['created', 'retry'],
  running: ['active'],
  succeeded: ['completed'],
  failed: ['failed', 'completed'],
  canceled: ['cancelled', 'completed'],
}

/** Throws unless Postgres is as the model says. */
async function compare(model: Model, real: Real): Promise<void> {
  const rows = await real.query(`
    select
      job.id, job.state, job.attempt, job.max_attempts, job.percent, job.cancel_requested, queue.state::text as queue,
      (select count(*)::int from effect where job_id = job.id) as effects,
      (select count(*)::int from accepted.attempt where job_id = job.id) as failures
    from accepted.job left join pgboss.job queue on queue.name = job.operation and queue.id = job.id`)
  if (rows.length !== model.jobs.size) throw new Error(`There are ${rows.length} jobs, not ${model.jobs.size}`)
  for (const row of rows) {
    const job = model.jobs.get(row.id) as ModelJob
    const wrong = [
      row.state !== job.state && `is ${row.state}, not ${job.state}`,
      row.effects !== Number(job.hasEffect) && `has ${row.effects} effects, not ${Number(job.hasEffect)}`,
      row.percent !== job.percent && `is at ${row.percent} %, not ${job.percent}`,
      row.failures !== job.spent + job.lost && `has ${row.failures} failed attempts, not ${job.spent + job.lost}`,
      row.attempt > row.max_attempts && `is at attempt ${row.attempt} of ${row.max_attempts}`,
      row.max_attempts > maxAttempts + job.lost && `has ${row.max_attempts} attempts, ${job.lost} of them not charged`,
      row.cancel_requested !== job.isCancelRequested && `cancel_requested is ${row.cancel_requested}`,
      !inQueue[job.state].includes(row.queue) && `is ${row.queue} in the queue, and ${job.state}`,
    ].filter(Boolean)
    if (wrong.length > 0) throw new Error(`${row.id} ${wrong.join('; ')}`)
  }
}

const nat = fc.nat(20)
// What brings jobs further is there more often, or few would get far.
const commands = fc.commands(
  [
    ...Array.from({ length: 3 }, () => fc.constantFrom('a', 'a', 'b', undefined).map(submit)),
    ...Array.from({ length: 3 }, () => fc.integer({ min: 1, max: 3 }).map(claim)),
    ...Array.from({ length: 4 }, () => nat.map(settle)),
    fc.tuple(nat, fc.integer({ min: 0, max: 100 })).map(([n, percent]) => progress(n, percent)),
    nat.map(fail),
    nat.map(failForGood),
    nat.map(later),
    fc.tuple(nat, fc.boolean()).map(([n, isHinted]) => cancel(n, isHinted)),
    nat.map(retry),
    nat.map(expire),
    ...Array.from({ length: 2 }, () => nat.map(crash)),
    ...Array.from({ length: 2 }, () => nat.map(claimSuspect)),
  ],
  { maxCommands: 100, size: 'max' },
)

t.test(`whatever happens to jobs, they are as the model says (seed ${seed})`, async (t) => {
  const real = await setUp(t)
  const property = fc.asyncProperty(commands, async (chosen) => {
    const model: Model = { jobs: new Map(), processed: new Map(), executions: [] }
    try {
      await fc.asyncModelRun(() => ({ model, real }), chosen)
    } finally {
      for (const { finish } of real.executions.values()) finish.resolve()
      await Promise.all([...real.executions.values()].map(({ ended }) => ended))
      real.executions.clear()
      await real.query('truncate accepted.job, accepted.attempt, accepted.processed_key, accepted.suspect, effect')
      await real.query('delete from pgboss.job where name = $1', [operation.name])
    }
  })
  await t.resolves(fc.assert(property, { numRuns: runs, seed }))
  t.comment([...taken].map(([name, count]) => `${count} × ${name}`).join(', '))
})
