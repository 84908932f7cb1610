import { defineOperation } from 'accepted'
import { JobFailed, RetryAfter } from 'accepted/worker'
import fc from 'fast-check'

import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { retryJob } from '../../src/accept/retry-job.ts'

import { cancelJob } from '../../src/jobs/cancel.ts'
import type { Claim } from '../../src/queue/claim.ts'

import { createCancellations } from '../../worker/execution/cancellation.ts'
import { createCompleter } from '../../worker/execution/completer.ts'
import { type RunContext, runEach } from '../../worker/execution/executor.ts'
import type { OperationWorker } from '../../worker/execution/operation-worker.ts'
import { createProgressWriter } from '../../worker/execution/progress.ts'
import { createRunTimes } from '../../worker/execution/run-times.ts'
import type { PerformHandler, PerformingJob } from '../../worker/handlers.ts'
import { registerRescues, rescueOrphaned } from '../../worker/maintenance/rescuer.ts'

import { type Jobs, openJobs, writeEffects } from '../support/jobs.ts'
import { createOperationWorker } from '../support/operation-worker.ts'
import { until } from '../support/until.ts'

// Runs random commands on jobs, and compares Postgres with a model after every command.
const runCount = Number(process.env.MODEL_RUNS ?? 10)
const seed = Number(process.env.MODEL_SEED ?? Date.now() % 2 ** 31)

const operation = defineOperation({
  name: 'word.write',
  input: Type.Object({ word: Type.String() }),
  retry: { limit: 1, delaySeconds: 0, backoff: false },
  heartbeatSeconds: 10,
  timeoutSeconds: 600,
})
const maxAttempts = operation.retry.limit + 1
/** A job fails when this number of workers have died while they ran it. */
const maxCrashes = 3
const operations = new Map([[operation.name, operation]])

/** The expected state of a job. */
interface ModelJob {
  id: string
  key: string | undefined
  status: 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled'
  /** Attempts that have failed. */
  spentAttempts: number
  /** Attempts that ended with the death of their worker. They do not count towards `maxAttempts`. */
  lostAttempts: number
  /** How many workers in a row have died while they ran the job. A job with crashes is in quarantine. */
  crashes: number
  percent: number | null
  isCancelRequested: boolean
  hasEffect: boolean
  isExpired: boolean
}

/** An execution whose handler has not returned. */
interface ModelExecution {
  /** The id of the job and the number of the attempt. */
  name: string
  job: string
  /** Whether the worker still holds the claim. */
  holdsClaim: boolean
}

interface Model {
  jobs: Map<string, ModelJob>
  /** The job that has written the effect, by idempotency key. */
  processed: Map<string, string>
  executions: ModelExecution[]
}

/** A running handler that the test can end. */
interface Execution {
  job: PerformingJob
  handlerEnd: PromiseWithResolvers<void>
  /** Resolves when the worker has completed, failed or lost the attempt. */
  ended: Promise<unknown>
}

interface RealSystem extends Jobs {
  worker: OperationWorker
  context: RunContext
  /** By the id of the job and the number of the attempt. */
  executions: Map<string, Execution>
  /** Claims due jobs and starts their handlers. Resolves when each handler waits for the test. */
  claim(limit: number): Promise<ClaimResult>
  claimQuarantined(id: string): Promise<ClaimResult>
}

interface ClaimResult {
  claimed: string[]
  /** The names of the executions whose handler runs. */
  performing: string[]
}

const isEnded = ({ status }: ModelJob) => status !== 'queued' && status !== 'running'

async function setUp(t: Test): Promise<RealSystem> {
  const jobs = await openJobs(t, [operation])
  const { database } = jobs
  const executions = new Map<string, Execution>()
  const handler: PerformHandler<typeof operation> = {
    perform: async (job) => {
      const handlerEnd = Promise.withResolvers<void>()
      // After a lost claim, the worker may have stopped awaiting this promise.
      handlerEnd.promise.catch(() => {})
      const name = `${job.id} ${job.attempt}`
      executions.set(name, { job, handlerEnd, ended: Promise.resolve() })
      await handlerEnd.promise
    },
    settle: writeEffects,
  }
  const worker = createOperationWorker(t, jobs, operation, handler as OperationWorker['handler'])
  await registerRescues(database, [operation.name])
  const progress = createProgressWriter(database, worker.notifier, () => {})
  t.teardown(() => progress.close())
  const context: RunContext = {
    progress,
    cancellations: createCancellations(database),
    runTimes: createRunTimes(database),
    stopping: new AbortController().signal,
  }
  const run = async (claims: readonly Claim[]): Promise<ClaimResult> => {
    const performing: string[] = []
    for (const claim of claims) {
      const name = `${claim.jobId} ${claim.attempt}`
      executions.delete(name)
      let hasEnded = false
      const completer = createCompleter(worker, context)
      const ended = runEach(worker, [claim], { completer, ...context }, () => {}).finally(() => {
        hasEnded = true
      })
      // A duplicate or canceled job ends without a call of its handler.
      await until(() => hasEnded || executions.has(name))
      const execution = executions.get(name)
      if (execution) Object.assign(execution, { ended })
      if (execution) performing.push(name)
    }
    return { claimed: claims.map(({ jobId }) => jobId), performing }
  }
  return {
    ...{ ...jobs, worker, context, executions },
    claim: async (limit) => run(await worker.claims.claim(limit)),
    async claimQuarantined(id) {
      const claim = await worker.claims.claimQuarantined(id)
      return run(claim ? [claim] : [])
    },
  }
}

type Command = fc.AsyncCommand<Model, RealSystem>

const pick = <Item>(items: readonly Item[], n: number): Item => items[n % items.length] as Item

/** How often each command ran. */
const runCounts = new Map<string, number>()

/** Creates a command that acts on one of the eligible items. The command is skipped if there is no such item. */
function commandOn<Item>(
  name: string,
  n: number,
  eligible: (model: Model) => Item[],
  act: (item: Item, model: Model, real: RealSystem) => Promise<void>,
): Command {
  return {
    check: (model) => eligible(model).length > 0,
    async run(model, real) {
      await act(pick(eligible(model), n), model, real)
      runCounts.set(name, (runCounts.get(name) ?? 0) + 1)
      await compare(model, real)
    },
    toString: () => `${name}(${n})`,
  }
}

const jobsWhere = (isEligible: (job: ModelJob) => boolean) => (model: Model) =>
  [...model.jobs.values()].filter(isEligible)
const claimHolders = (model: Model) => model.executions.filter(({ holdsClaim }) => holdsClaim)

/**
 * Ends an execution, in Postgres and in the model.
 *
 * @param endHandler ends the handler of the execution
 * @param change changes the job in the model; not called if the claim is lost or a cancel was requested
 */
async function endExecution(
  real: RealSystem,
  model: Model,
  execution: ModelExecution,
  endHandler: (handlerEnd: PromiseWithResolvers<void>) => void,
  change: (job: ModelJob, model: Model) => void,
): Promise<void> {
  const { handlerEnd, ended } = real.executions.get(execution.name) as Execution
  endHandler(handlerEnd)
  await ended
  real.executions.delete(execution.name)
  model.executions.splice(model.executions.indexOf(execution), 1)
  const job = model.jobs.get(execution.job) as ModelJob
  if (!execution.holdsClaim) return
  if (job.crashes > 0) await real.query('delete from accepted.quarantine where job_id = $1', [job.id])
  job.crashes = 0
  if (job.isCancelRequested) job.status = 'canceled'
  else change(job, model)
}

function succeed(model: Model, job: ModelJob): void {
  const first = job.key === undefined ? undefined : model.processed.get(job.key)
  job.status = 'succeeded'
  job.percent = 100
  if (first !== undefined && first !== job.id && !model.jobs.get(first)?.isExpired) return
  job.hasEffect = true
  if (job.key !== undefined) model.processed.set(job.key, job.id)
}

function spend(job: ModelJob): void {
  job.spentAttempts += 1
  job.status = job.spentAttempts >= maxAttempts ? 'failed' : 'queued'
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
  ...{ id, key, status: 'queued', spentAttempts: 0, lostAttempts: 0, crashes: 0, percent: null },
  ...{ isCancelRequested: false, hasEffect: false, isExpired: false },
})

const claim = (limit: number): Command => ({
  check: () => true,
  async run(model, real) {
    const due = jobsWhere(({ status, crashes }) => status === 'queued' && crashes === 0)(model)
    const result = await real.claim(limit)
    if (result.claimed.length !== Math.min(limit, due.length)) {
      throw new Error(`Claimed ${result.claimed.length} of ${due.length} due jobs with a limit of ${limit}`)
    }
    for (const id of result.claimed) begin(model, id, result)
    await compare(model, real)
  },
  toString: () => `claim(${limit})`,
})

const claimQuarantined = (n: number): Command =>
  commandOn(
    'claim quarantined',
    n,
    jobsWhere(({ status, crashes }) => status === 'queued' && crashes > 0),
    async ({ id }, model, real) => {
      const result = await real.claimQuarantined(id)
      if (result.claimed.length !== 1) throw new Error(`${id} is in quarantine and could not be claimed`)
      begin(model, id, result)
    },
  )

function begin(model: Model, id: string, { performing }: ClaimResult): void {
  const job = model.jobs.get(id) as ModelJob
  const name = `${id} ${job.spentAttempts + job.lostAttempts + 1}`
  if (job.status !== 'queued') throw new Error(`${id} was claimed while it was ${job.status}`)
  if (job.isCancelRequested) job.status = 'canceled'
  else if (performing.includes(name)) {
    job.status = 'running'
    model.executions.push({ name, job: id, holdsClaim: true })
  } else {
    // Only a duplicate succeeds without a call of its handler.
    succeed(model, job)
    if (job.hasEffect) throw new Error(`${id} succeeded without a call of its handler, but is not a duplicate`)
  }
}

const progress = (n: number, percent: number): Command =>
  commandOn('progress', n, claimHolders, async ({ name, job: id }, model, real) => {
    real.executions.get(name)?.job.progress(percent)
    const job = model.jobs.get(id) as ModelJob
    job.percent = Math.max(job.percent ?? 0, percent)
    await until(async () => (await real.read(id)).percent === job.percent)
  })

/** Creates a command that ends an execution, even if its claim is lost. See {@link endExecution}. */
const endCommand = (
  name: string,
  n: number,
  endHandler: (handlerEnd: PromiseWithResolvers<void>) => void,
  change: (job: ModelJob, model: Model) => void,
): Command =>
  commandOn(
    name,
    n,
    ({ executions }) => executions,
    (execution, model, real) => endExecution(real, model, execution, endHandler, change),
  )

const settle = (n: number): Command =>
  endCommand(
    'settle',
    n,
    ({ resolve }) => resolve(),
    (job, model) => succeed(model, job),
  )

const throwError = (n: number): Command => endCommand('throw', n, ({ reject }) => reject(new Error('no')), spend)

const throwJobFailed = (n: number): Command =>
  endCommand(
    'throw JobFailed',
    n,
    ({ reject }) => reject(new JobFailed('no', 'No')),
    (job) => {
      job.spentAttempts += 1
      job.status = 'failed'
    },
  )

const throwRetryAfter = (n: number): Command =>
  endCommand(
    'throw RetryAfter',
    n,
    ({ reject }) => reject(new RetryAfter(0)),
    (job) => {
      job.status = 'queued'
    },
  )

/** @param isNotified whether the worker gets the notification of the cancel */
const cancel = (n: number, isNotified: boolean): Command =>
  commandOn(
    `cancel ${isNotified ? 'with' : 'without'} notification`,
    n,
    jobsWhere(() => true),
    async (job, model, real) => {
      const { kind } = await real.database.kysely
        .transaction()
        .execute((trx) => cancelJob(trx as never, { id: job.id, principal: 'ann' }))
      const expected =
        { queued: 'canceled', running: 'requested', canceled: 'canceled' }[job.status as string] ?? 'too-late'
      if (kind !== expected) throw new Error(`Cancel of a ${job.status} job returned ${kind}`)
      if (job.status === 'queued') {
        job.status = 'canceled'
        job.isCancelRequested = true
      } else if (job.status === 'running') {
        job.isCancelRequested = true
        if (isNotified) await abort(job, model, real)
      }
    },
  )

async function abort(job: ModelJob, model: Model, real: RealSystem): Promise<void> {
  const execution = model.executions.find(({ holdsClaim, job: id }) => holdsClaim && id === job.id)
  if (!execution) throw new Error(`${job.id} is running without an execution`)
  await endExecution(
    real,
    model,
    execution,
    () => real.context.cancellations.request([job.id]),
    () => {},
  )
}

const retry = (n: number): Command =>
  commandOn(
    'retry',
    n,
    jobsWhere((job) => !job.isExpired),
    async (job, model, real) => {
      const id = uuid7()
      const isRetryable = job.status === 'failed' || job.status === 'canceled'
      const retried = await real.database.kysely
        .transaction()
        .execute((trx) => retryJob(trx as never, operations, { id, jobId: job.id, principal: 'ann' }))
        .then(
          () => true,
          ({ code }) => (code === 'job-not-retryable' ? false : Promise.reject(code)),
        )
      if (retried !== isRetryable) throw new Error(`A ${job.status} job was ${retried ? '' : 'not '}retried`)
      if (retried) model.jobs.set(id, newJob(id, job.key ?? job.id))
    },
  )

const expire = (n: number): Command =>
  commandOn(
    'expire',
    n,
    jobsWhere((job) => isEnded(job) && !job.isExpired),
    async (job, _model, real) => {
      await real.query("update accepted.job set expires_at = now() - interval '1 second' where id = $1", [job.id])
      job.isExpired = true
    },
  )

/** Makes the heartbeat of one execution overdue, and rescues its job as another worker would. */
const loseWorker = (n: number): Command =>
  commandOn('lose worker', n, claimHolders, async (execution, model, real) => {
    await real.query(
      `update accepted_queue.job set heartbeat_on = now() - interval '1 hour' where name = $1 and id = $2 and state = 'active'`,
      [operation.name, execution.job],
    )
    // A crash counts only if no other heartbeat is overdue and no other job has crashed a worker recently.
    await real.query(`
      update accepted_queue.job set heartbeat_on = now() where state = 'active' and id <> '${execution.job}';
      update accepted.quarantine set crashed_at = now() - interval '1 minute';
      update accepted.rescue set checked_at = '-infinity'`)
    await rescueOrphaned(real.database, [real.worker])
    execution.holdsClaim = false
    const job = model.jobs.get(execution.job) as ModelJob
    if (job.isCancelRequested) {
      job.status = 'canceled'
      return
    }
    job.crashes += 1
    job.lostAttempts += 1
    job.status = job.crashes === maxCrashes ? 'failed' : 'queued'
  })

/** The states that the queue row of a job may have, by the status of the job. */
const queueStates: Record<ModelJob['status'], readonly string[]> = {
  queued: ['created', 'retry'],
  running: ['active'],
  succeeded: ['deleted'],
  failed: ['failed'],
  // If the worker cancels the job, it deletes the row. A cancel of a queued job keeps the row.
  canceled: ['cancelled', 'deleted'],
}

/** @throws Error if Postgres differs from the model */
async function compare(model: Model, real: RealSystem): Promise<void> {
  const rows = await real.query(`
    select
      job.id, job.status, job.attempt, job.max_attempts, job.percent, job.cancel_requested,
      coalesce(queue.state::text, 'deleted') as queue_state,
      (select count(*)::int from effect where job_id = job.id) as effects,
      (select count(*)::int from accepted.attempt where job_id = job.id) as failures
    from accepted.job left join accepted_queue.job queue on queue.name = job.operation and queue.id = job.id`)
  if (rows.length !== model.jobs.size) throw new Error(`Postgres has ${rows.length} jobs, the model ${model.jobs.size}`)
  for (const row of rows) {
    const job = model.jobs.get(row.id) as ModelJob
    const { spentAttempts, lostAttempts } = job
    const actual = {
      ...{ status: row.status, effects: row.effects, percent: row.percent },
      ...{ failedAttempts: row.failures, isCancelRequested: row.cancel_requested },
    }
    const expected = {
      ...{ status: job.status, effects: Number(job.hasEffect), percent: job.percent },
      ...{ failedAttempts: spentAttempts + lostAttempts, isCancelRequested: job.isCancelRequested },
    }
    const differences = [
      ...Object.keys(expected)
        .map((name) => name as keyof typeof expected)
        .filter((name) => actual[name] !== expected[name])
        .map((name) => `${name} is ${actual[name]}, expected ${expected[name]}`),
      row.attempt > row.max_attempts && `attempt ${row.attempt} exceeds max_attempts ${row.max_attempts}`,
      row.max_attempts > maxAttempts + lostAttempts &&
        `max_attempts is ${row.max_attempts} after ${lostAttempts} lost attempts`,
      !queueStates[job.status].includes(row.queue_state) &&
        `the queue row of a ${job.status} job is ${row.queue_state}`,
    ].filter(Boolean)
    if (differences.length > 0) throw new Error(`${row.id}: ${differences.join('; ')}`)
  }
}

const nat = fc.nat(20)
// Commands that advance jobs are listed several times. Without this, few jobs would end.
const commands = fc.commands(
  [
    ...Array.from({ length: 3 }, () => fc.constantFrom('a', 'a', 'b', undefined).map(submit)),
    ...Array.from({ length: 3 }, () => fc.integer({ min: 1, max: 3 }).map(claim)),
    ...Array.from({ length: 4 }, () => nat.map(settle)),
    fc.tuple(nat, fc.integer({ min: 0, max: 100 })).map(([n, percent]) => progress(n, percent)),
    nat.map(throwError),
    nat.map(throwJobFailed),
    nat.map(throwRetryAfter),
    fc.tuple(nat, fc.boolean()).map(([n, isNotified]) => cancel(n, isNotified)),
    nat.map(retry),
    nat.map(expire),
    ...Array.from({ length: 2 }, () => nat.map(loseWorker)),
    ...Array.from({ length: 2 }, () => nat.map(claimQuarantined)),
  ],
  { maxCommands: 100, size: 'max' },
)

t.test(`after every step of a random sequence, Postgres matches the model (seed ${seed})`, async (t) => {
  const real = await setUp(t)
  const property = fc.asyncProperty(commands, async (chosen) => {
    const model: Model = { jobs: new Map(), processed: new Map(), executions: [] }
    try {
      await fc.asyncModelRun(() => ({ model, real }), chosen)
    } finally {
      for (const { handlerEnd } of real.executions.values()) handlerEnd.resolve()
      await Promise.all([...real.executions.values()].map(({ ended }) => ended))
      real.executions.clear()
      await real.query('truncate accepted.job, accepted.attempt, accepted.processed_key, accepted.quarantine, effect')
      await real.query('delete from accepted_queue.job where name = $1', [operation.name])
    }
  })
  await t.resolves(fc.assert(property, { numRuns: runCount, seed }))
  t.comment([...runCounts].map(([name, count]) => `${count} × ${name}`).join(', '))
})
