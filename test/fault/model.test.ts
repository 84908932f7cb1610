import { defineOperation, type Operation } from 'accepted'
import { JobFailed, RetryAfter } from 'accepted/worker'
import fc from 'fast-check'

import type { Transaction } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { retryJob } from '../../src/accept/retry-job.ts'

import { cancelJob } from '../../src/jobs/cancel.ts'
import { createEndings, type Endings } from '../../src/jobs/endings.ts'
import type { Claim } from '../../src/queue/claim.ts'

import { createCancellations } from '../../worker/execution/cancellation.ts'
import { createCompleter } from '../../worker/execution/completer.ts'
import { type RunContext, runEach } from '../../worker/execution/executor.ts'
import type { OperationWorker } from '../../worker/execution/operation-worker.ts'
import { createProgressWriter } from '../../worker/execution/progress.ts'
import { createRunTimes } from '../../worker/execution/run-times.ts'
import type { PerformHandler } from '../../worker/handlers.ts'
import { registerRescues, rescueOrphaned } from '../../worker/maintenance/rescuer.ts'
import type { PerformingJob } from '../../worker/running-job.ts'

import { type EffectTables, type Jobs, openJobs, writeEffects } from '../support/jobs.ts'
import { createOperationWorker } from '../support/operation-worker.ts'
import { until } from '../support/until.ts'

// Runs random commands on jobs, and compares Postgres with a model after every command.
const runCount = Number(process.env.MODEL_RUNS ?? 5)
/** Looking for a shorter sequence that fails takes many minutes: set MODEL_RUNS for that. */
const endOnFailure = process.env.MODEL_RUNS === undefined
const seed = Number(process.env.MODEL_SEED ?? Date.now() % 2 ** 31)

const common = {
  input: Type.Object({ word: Type.String(), childCount: Type.Integer() }),
  retry: { limit: 1, delaySeconds: 0, backoff: false },
  heartbeatSeconds: 10,
  timeoutSeconds: 600,
}
const plain = defineOperation({ ...common, name: 'word.write' })
const withAbandon = defineOperation({
  ...common,
  name: 'word.keep',
  abandon: (trx: Transaction<EffectTables>, jobs) =>
    writeEffects(
      trx,
      jobs.map(({ id }) => ({ id, payload: { word: abandoned } })),
    ),
})
/** What `abandon` writes. */
const abandoned = 'abandoned'
const maxAttempts = common.retry.limit + 1
/** A job fails when this number of workers have died while they ran it. */
const maxCrashes = 3
const operations = new Map<string, Operation>([plain, withAbandon].map((one) => [one.name, one]))

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
  /** How many children its settle enqueues. */
  childCount: number
  parent: string | null
  retryOf: string | undefined
  /** Whether the job has settled and waits for its children. */
  isAwaiting: boolean
  /** The status that the job gets when `abandon` has committed. */
  decided: 'failed' | 'canceled' | undefined
  /** The jobs that must end before the job starts. */
  waitsFor: Set<string>
  onFailure: 'cancel' | 'run'
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
  hasAbandon: boolean
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
  operation: Operation
  worker: OperationWorker
  endings: Endings
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

async function setUp(t: Test, operation: typeof plain | typeof withAbandon): Promise<RealSystem> {
  const jobs = await openJobs(t, [...operations.values()])
  const { database } = jobs
  const executions = new Map<string, Execution>()
  const handler: PerformHandler<typeof plain> = {
    perform: async (job) => {
      const handlerEnd = Promise.withResolvers<void>()
      // After a lost claim, the worker may have stopped awaiting this promise.
      handlerEnd.promise.catch(() => {})
      const name = `${job.id} ${job.attempt}`
      executions.set(name, { job, handlerEnd, ended: Promise.resolve() })
      await handlerEnd.promise
    },
    settle: async (trx, settling) => {
      await writeEffects(trx, settling)
      for (const { payload, enqueue } of settling) {
        for (let n = 0; n < payload.childCount; n++) {
          await enqueue(trx, operation, { word: 'x', childCount: 0 }, { child: true })
        }
      }
    },
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
    ...{ ...jobs, operation, worker, context, executions },
    endings: createEndings({ database, operations, notifier: worker.notifier, log: worker.log }),
    async claim(limit) {
      // Else a retry that is older than the last claims would be found only by a later claim.
      worker.claims.rescan()
      return run(await worker.claims.claim(limit))
    },
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
  if (job.isAwaiting) await addChildren(model, real, job)
  resolve(model)
}

/** Adds the children that the settle of a job has enqueued. */
async function addChildren(model: Model, real: RealSystem, parent: ModelJob): Promise<void> {
  const rows = await real.query('select id from accepted.job where parent = $1 and retry_of is null', [parent.id])
  if (rows.length !== parent.childCount) throw new Error(`${parent.id} has ${rows.length} children`)
  for (const { id } of rows) model.jobs.set(id, { ...newJob(id, undefined), parent: parent.id })
}

/** Ends a job that no worker holds. With `abandon`, the end is only decided. */
function endUnclaimed(model: Model, job: ModelJob, status: 'failed' | 'canceled'): void {
  if (model.hasAbandon) job.decided ??= status
  else job.status = status
}

/** Does what follows from ends: starts or cancels the jobs that wait, and ends parents. Repeats until nothing changes. */
function resolve(model: Model): void {
  let hasChanged: boolean
  do {
    hasChanged = false
    for (const job of model.jobs.values()) {
      if (isEnded(job) || job.decided) continue
      const ended = [...job.waitsFor].map((id) => model.jobs.get(id) as ModelJob).filter(isEnded)
      for (const { id } of ended) job.waitsFor.delete(id)
      if (job.onFailure === 'cancel' && ended.some(({ status }) => status !== 'succeeded')) {
        cancelUnclaimed(model, job)
        hasChanged = true
      } else if (job.isAwaiting && childrenOf(model, job).every(isEnded)) {
        endParent(model, job)
        hasChanged = true
      }
    }
  } while (hasChanged)
}

const childrenOf = (model: Model, { id }: ModelJob) => [...model.jobs.values()].filter(({ parent }) => parent === id)

/** The children that count: a retry counts in place of the child. */
const countedChildren = (model: Model, job: ModelJob) => {
  const children = childrenOf(model, job)
  const retried = new Set(children.map(({ retryOf }) => retryOf))
  return children.filter(({ id, status }) => !(retried.has(id) && (status === 'failed' || status === 'canceled')))
}

function endParent(model: Model, job: ModelJob): void {
  job.isAwaiting = false
  const children = countedChildren(model, job)
  const succeeded = children.filter(({ status }) => status === 'succeeded').length
  const hasFailed = succeeded < children.length
  const share = Math.min(99, Math.floor((100 * succeeded) / children.length))
  job.percent = hasFailed || job.isCancelRequested ? Math.max(job.percent ?? 0, share) : 100
  if (job.isCancelRequested) endUnclaimed(model, job, 'canceled')
  else if (hasFailed) endUnclaimed(model, job, 'failed')
  else job.status = 'succeeded'
  if (isEnded(job)) freeKey(model, job)
}

/** The key of a parent that has not succeeded is free again. */
function freeKey(model: Model, { status, childCount, key, id }: ModelJob): void {
  if (status === 'succeeded' || childCount === 0 || key === undefined) return
  if (model.processed.get(key) === id) model.processed.delete(key)
}

function cancelUnclaimed(model: Model, job: ModelJob): void {
  job.isCancelRequested = true
  job.waitsFor.clear()
  endUnclaimed(model, job, 'canceled')
}

function succeed(model: Model, job: ModelJob): void {
  const first = job.key === undefined ? undefined : model.processed.get(job.key)
  const isDuplicate = first !== undefined && first !== job.id && !model.jobs.get(first)?.isExpired
  job.isAwaiting = job.childCount > 0 && !isDuplicate
  job.status = job.isAwaiting ? 'running' : 'succeeded'
  job.percent = job.isAwaiting ? (job.percent ?? 0) : 100
  if (isDuplicate) return
  job.hasEffect = true
  if (job.key !== undefined) model.processed.set(job.key, job.id)
}

function spend(job: ModelJob): void {
  job.spentAttempts += 1
  job.status = job.spentAttempts >= maxAttempts ? 'failed' : 'queued'
}

interface Submitted {
  key: string | undefined
  childCount: number
  /** Chooses the jobs that it waits for. */
  after: number[]
  onFailure: 'cancel' | 'run'
}

const submit = ({ after, onFailure, ...given }: Submitted): Command => ({
  check: () => true,
  async run(model, real) {
    // A duplicate of a job that waits for its children would run again some seconds later.
    const childCount = given.key === undefined ? given.childCount : 0
    const ids = [...model.jobs.keys()]
    const awaited = new Set(ids.length === 0 ? [] : after.map((n) => pick(ids, n)))
    const more = { idempotencyKey: given.key, after: [...awaited], onFailure }
    const id = await real.add(real.operation, { word: 'x', childCount }, more)
    model.jobs.set(id, { ...newJob(id, given.key), childCount, waitsFor: awaited, onFailure })
    resolve(model)
    await compare(model, real)
  },
  toString: () => `submit(${JSON.stringify({ ...given, after, onFailure })})`,
})

const newJob = (id: string, key: string | undefined): ModelJob => ({
  ...{ id, key, status: 'queued', spentAttempts: 0, lostAttempts: 0, crashes: 0, percent: null },
  ...{ isCancelRequested: false, hasEffect: false, isExpired: false },
  ...{ childCount: 0, parent: null, retryOf: undefined, isAwaiting: false, decided: undefined },
  ...{ waitsFor: new Set<string>(), onFailure: 'cancel' as const },
})

const claim = (limit: number): Command => ({
  check: () => true,
  async run(model, real) {
    const due = jobsWhere(
      ({ status, crashes, decided, waitsFor }) =>
        status === 'queued' && crashes === 0 && !decided && waitsFor.size === 0,
    )(model)
    const result = await real.claim(limit)
    if (result.claimed.length !== Math.min(limit, due.length)) {
      throw new Error(`Claimed ${result.claimed.length} of ${due.length} due jobs with a limit of ${limit}`)
    }
    for (const id of result.claimed) begin(model, id, result)
    resolve(model)
    await compare(model, real)
  },
  toString: () => `claim(${limit})`,
})

const claimQuarantined = (n: number): Command =>
  commandOn(
    'claim quarantined',
    n,
    jobsWhere(({ status, crashes, decided }) => status === 'queued' && crashes > 0 && !decided),
    async ({ id }, model, real) => {
      const result = await real.claimQuarantined(id)
      if (result.claimed.length !== 1) throw new Error(`${id} is in quarantine and could not be claimed`)
      begin(model, id, result)
      resolve(model)
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
      const before = job.status
      const isRunning = before === 'running' && !job.isAwaiting && !job.decided
      if (!isEnded(job)) cancelInModel(model, job)
      resolve(model)
      const expected =
        { succeeded: 'too-late', failed: 'too-late', canceled: 'canceled' }[before as string] ??
        (job.status === 'canceled' ? 'canceled' : 'requested')
      if (kind !== expected) throw new Error(`Cancel of a ${before} job returned ${kind}, expected ${expected}`)
      if (isRunning && isNotified) await abort(job, model, real)
    },
  )

/** Cancels a job and its children. */
function cancelInModel(model: Model, job: ModelJob): void {
  job.isCancelRequested = true
  if (job.isAwaiting) {
    for (const child of childrenOf(model, job)) if (!isEnded(child)) cancelInModel(model, child)
  } else if (job.status === 'queued' && !job.decided) cancelUnclaimed(model, job)
}

const completeEnds = (): Command => ({
  check: ({ jobs }) => [...jobs.values()].some(({ decided }) => decided),
  async run(model, real) {
    await real.endings.completeDue()
    // The end of a job can decide the ends of others, which are completed next time.
    for (const job of [...model.jobs.values()].filter(({ decided }) => decided)) {
      job.status = job.decided as 'failed' | 'canceled'
      job.decided = undefined
      freeKey(model, job)
    }
    resolve(model)
    runCounts.set('complete ends', (runCounts.get('complete ends') ?? 0) + 1)
    await compare(model, real)
  },
  toString: () => 'complete ends',
})

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
    // The second retry of a parent would wait for the first retry, because both have the same key.
    (model) =>
      jobsWhere(
        (job) =>
          !job.isExpired && (job.childCount === 0 || [...model.jobs.values()].every(({ key }) => key !== job.id)),
      )(model),
    async (job, model, real) => {
      const id = uuid7()
      const isRetryable = job.status === 'failed' || job.status === 'canceled'
      const retried = await real.database.kysely
        .transaction()
        .execute((trx) => retryJob(trx as never, operations, { id, jobId: job.id, owner: 'ann', principal: 'ann' }))
        .then(
          () => true,
          ({ code }) => (code === 'job-not-retryable' ? false : Promise.reject(code)),
        )
      if (retried !== isRetryable) throw new Error(`A ${job.status} job was ${retried ? '' : 'not '}retried`)
      if (!retried) return
      const parent = model.jobs.get(job.parent ?? '')
      // Only one retry of a job counts for its parent.
      const others = [...model.jobs.values()].filter(
        ({ retryOf, parent }) => retryOf === job.id && parent === job.parent,
      )
      const counts = parent?.isAwaiting && !parent.isCancelRequested && others.length === 0
      const more = { childCount: job.childCount, retryOf: job.id, parent: counts ? job.parent : null }
      model.jobs.set(id, { ...newJob(id, job.key ?? job.id), ...more })
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
      [real.operation.name, execution.job],
    )
    // A crash counts only if no other heartbeat is overdue and no other job has crashed a worker recently.
    await real.query(`
      update accepted_queue.job set heartbeat_on = now() where state = 'active' and id <> '${execution.job}';
      update accepted.quarantine set crashed_at = now() - interval '1 minute';
      update accepted.rescue set checked_at = '-infinity'`)
    await rescueOrphaned(real.database, [real.worker])
    execution.holdsClaim = false
    const job = model.jobs.get(execution.job) as ModelJob
    if (job.isCancelRequested) endUnclaimed(model, job, 'canceled')
    else {
      job.crashes += 1
      job.lostAttempts += 1
      if (job.crashes === maxCrashes) endUnclaimed(model, job, 'failed')
      else job.status = 'queued'
    }
    resolve(model)
  })

/** The states that the queue row of a job may have. */
function queueStatesOf({ status, decided, isAwaiting, childCount, waitsFor }: ModelJob): readonly string[] {
  if (isAwaiting) return ['deleted']
  const states = {
    queued: [waitsFor.size > 0 ? 'created blocked' : 'created', 'retry', 'retry blocked'],
    running: ['active'],
    succeeded: ['deleted'],
    // The row of a parent was deleted when it settled.
    failed: ['failed', ...(childCount > 0 ? ['deleted'] : [])],
    // If the worker cancels the job, it deletes the row. A cancel of a queued job keeps the row.
    canceled: ['cancelled', 'deleted'],
  }
  return states[decided ?? status]
}

const describe = ({ total, succeeded, failed, canceled }: Record<string, number>) =>
  `${total}: ${succeeded} succeeded, ${failed} failed, ${canceled} canceled`

function countChildren(model: Model, job: ModelJob): Record<string, number> {
  const counted = countedChildren(model, job)
  const having = (status: ModelJob['status']) => counted.filter((child) => child.status === status).length
  return {
    ...{ total: counted.length, succeeded: having('succeeded') },
    ...{ failed: having('failed'), canceled: having('canceled') },
  }
}

/** @throws Error if Postgres differs from the model */
async function compare(model: Model, real: RealSystem): Promise<void> {
  const rows = await real.query(`
    select
      job.id, job.status, job.attempt, job.max_attempts, job.percent, job.cancel_requested,
      coalesce(queue.state::text || case when queue.blocked then ' blocked' else '' end, 'deleted') as queue_state,
      job.parent, job.waiting_for, job.children, ending.status::text as decided,
      exists (select from accepted.parent where job_id = job.id) as is_awaiting,
      (select count(*)::int from effect where job_id = job.id and word <> '${abandoned}') as effects,
      (select count(*)::int from effect where job_id = job.id and word = '${abandoned}') as abandons,
      (select count(*)::int from accepted.attempt where job_id = job.id) as failures
    from accepted.job left join accepted_queue.job queue on queue.name = job.operation and queue.id = job.id
    left join accepted.ending on ending.job_id = job.id`)
  if (rows.length !== model.jobs.size) throw new Error(`Postgres has ${rows.length} jobs, the model ${model.jobs.size}`)
  for (const row of rows) {
    const job = model.jobs.get(row.id) as ModelJob
    const { spentAttempts, lostAttempts } = job
    const actual = {
      ...{ status: row.status, effects: row.effects, percent: row.percent },
      ...{ failedAttempts: row.failures, isCancelRequested: row.cancel_requested, abandons: row.abandons },
      ...{ parent: row.parent, waitsFor: String(row.waiting_for ?? ''), decided: row.decided ?? undefined },
      ...{ isAwaiting: row.is_awaiting, children: row.children && !row.is_awaiting ? describe(row.children) : '' },
    }
    const isAbandoned = model.hasAbandon && ['failed', 'canceled'].includes(job.status)
    const hasChildren = !job.isAwaiting && row.children !== null
    const expected = {
      ...{ status: job.status, effects: Number(job.hasEffect), percent: job.percent },
      ...{ failedAttempts: spentAttempts + lostAttempts, isCancelRequested: job.isCancelRequested },
      ...{ abandons: Number(isAbandoned), parent: job.parent, waitsFor: String([...job.waitsFor].sort()) },
      ...{ decided: job.decided, isAwaiting: job.isAwaiting },
      children: hasChildren ? describe(countChildren(model, job)) : '',
    }
    const differences = [
      ...Object.keys(expected)
        .map((name) => name as keyof typeof expected)
        .filter((name) => actual[name] !== expected[name])
        .map((name) => `${name} is ${actual[name]}, expected ${expected[name]}`),
      row.attempt > row.max_attempts && `attempt ${row.attempt} exceeds max_attempts ${row.max_attempts}`,
      row.max_attempts > maxAttempts + lostAttempts &&
        `max_attempts is ${row.max_attempts} after ${lostAttempts} lost attempts`,
      !queueStatesOf(job).includes(row.queue_state) && `the queue row of a ${job.status} job is ${row.queue_state}`,
    ].filter(Boolean)
    if (differences.length > 0) throw new Error(`${row.id}: ${differences.join('; ')}`)
  }
}

const nat = fc.nat(20)
const submitted = {
  key: fc.constantFrom('a', 'a', 'b', undefined, undefined, undefined),
  childCount: fc.constantFrom(0, 0, 1, 2),
  after: fc.oneof({ weight: 2, arbitrary: fc.constant<number[]>([]) }, fc.array(nat, { maxLength: 2 })),
  onFailure: fc.constantFrom('cancel' as const, 'run' as const),
}
// Commands that advance jobs are listed several times. Without this, few jobs would end.
const commands = fc.commands(
  [
    ...Array.from({ length: 3 }, () => fc.record(submitted).map(submit)),
    ...Array.from({ length: 2 }, () => fc.constant(completeEnds())),
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

for (const operation of [plain, withAbandon]) {
  t.test(
    `after every step of a random sequence, Postgres matches the model (${operation.name}, seed ${seed})`,
    async (t) => {
      const real = await setUp(t, operation)
      const hasAbandon = operation === withAbandon
      const property = fc.asyncProperty(commands, async (chosen) => {
        const model: Model = { hasAbandon, jobs: new Map(), processed: new Map(), executions: [] }
        try {
          await fc.asyncModelRun(() => ({ model, real }), chosen)
        } finally {
          for (const { handlerEnd } of real.executions.values()) handlerEnd.resolve()
          await Promise.all([...real.executions.values()].map(({ ended }) => ended))
          real.executions.clear()
          await real.query(`truncate accepted.job, accepted.attempt, accepted.processed_key, accepted.quarantine,
          accepted.parent, accepted.dependency, accepted.ending, effect`)
          await real.query('delete from accepted_queue.job where name = $1', [operation.name])
        }
      })
      await t.resolves(fc.assert(property, { numRuns: runCount, seed, endOnFailure }))
      t.comment([...runCounts].map(([name, count]) => `${count} × ${name}`).join(', '))
    },
  )
}
