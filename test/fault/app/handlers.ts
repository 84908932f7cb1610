import { appendFileSync, closeSync, existsSync, openSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { defineHandlers, JobFailed, type SettlingJob } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import * as operations from './operations.ts'
import { addDomainRows, contend, setStates, type Tables } from './operations.ts'

// Executions are recorded in a file: they count even if Postgres rolls them back or is down.
const executionsFile = process.env.EXECUTIONS as string

/** The start or the end of a handler, as recorded in the file `executions-spans`. */
export interface Span {
  pid: number
  /** The id of the job. */
  id: string
  group: string | undefined
  event: 'begin' | 'end'
  /** The time on the monotonic clock that all processes of this machine share. */
  atNs: number
}

const recordExecutions = (jobs: readonly { id: string }[]) =>
  appendFileSync(executionsFile, jobs.map(({ id }) => `${id}\n`).join(''))

async function recordSpan(id: string, group: string | undefined, work: () => Promise<void>): Promise<void> {
  const record = (event: Span['event']) => {
    const span: Span = { pid: process.pid, id, group, event, atNs: Number(process.hrtime.bigint()) }
    appendFileSync(`${executionsFile}-spans`, `${JSON.stringify(span)}\n`)
  }
  record('begin')
  await work()
  record('end')
}

async function writeEffects(
  trx: Transaction<Tables>,
  jobs: readonly Pick<SettlingJob<typeof operations.settled>, 'id' | 'payload'>[],
): Promise<void> {
  await trx
    .insertInto('effect')
    .values(jobs.map(({ id, payload }) => ({ job_id: id, token: payload.token })))
    // The prepared plan becomes stale when a column is added.
    .returningAll()
    .execute()
  await setStates(trx, 'succeeded', jobs)
  // The test may pause or kill the process here, in the middle of the transaction.
  if (process.env.HANG === 'settle') await hang()
}

/** Sends a message to the test, and waits for its reply. */
async function hang(): Promise<void> {
  const reply = new Promise((resolve) => process.once('message', resolve))
  process.send?.('hanging')
  await reply
}

const poisons = {
  throw: async () => {
    throw new Error('poison')
  },
  'reject-late': async () => {
    // The attempt may have ended when this promise rejects.
    void delay(100).then(() => {
      throw new Error('late poison')
    })
    await delay(5)
    throw new Error('poison')
  },
  exit: async () => process.exit(1),
  loop: async () => {
    for (;;);
  },
  allocate: async () => {
    const kept: unknown[] = []
    for (;;) kept.push(new Array(100_000).fill(kept.length))
  },
}

async function assertPermitted(
  trx: Transaction<Tables>,
  jobs: readonly SettlingJob<typeof operations.failing>[],
): Promise<void> {
  const tokens = jobs.map(({ payload }) => payload.token)
  const permitted = await trx.selectFrom('permission').select('token').where('token', 'in', tokens).execute()
  if (permitted.length < jobs.length) throw new JobFailed('not-permitted', 'The test does not permit this job yet')
}

/** Blocks the event loop until the file `executions-unblock` exists. Only the first process per phase blocks. */
function blockOnce(phase: 'perform' | 'settle'): void {
  try {
    closeSync(openSync(`${executionsFile}-blocked-${phase}`, 'wx'))
  } catch {
    return
  }
  // Waiting blocks the event loop without using the CPU that the other processes need.
  const neverNotified = new Int32Array(new SharedArrayBuffer(4))
  while (!existsSync(`${executionsFile}-unblock`)) Atomics.wait(neverNotified, 0, 0, 20)
}

type UnawaitedJob = SettlingJob<typeof operations.unawaited>

const maxWrites = 1_000
const maxRefusals = 50

/** Keeps writing after the transaction has ended, until many writes have been refused. */
async function keepWriting(trx: Transaction<Tables>, { id }: UnawaitedJob): Promise<void> {
  let refusals = 0
  for (let count = 0; count < maxWrites && refusals < maxRefusals; count++) {
    try {
      await trx.insertInto('unawaited_write').values({ job_id: id }).execute()
    } catch {
      refusals += 1
      await new Promise(setImmediate)
    }
  }
}

type SettleOne = (trx: Transaction<Tables>, job: UnawaitedJob) => Promise<unknown>

const settleAwaited: SettleOne = (trx, job) => writeEffects(trx, [job])

const settleConcurrently: SettleOne = (trx, job) => {
  const write = () => writeEffects(trx, [job])
  // The writes behind the failing statement are still queued when the transaction is rolled back.
  return Promise.all([write(), sql`select 1 / 0`.execute(trx), write(), write()])
}

/** How the first attempt of a job sends its statements, by pattern. */
const firstAttempts: Record<string, SettleOne> = {
  awaited: settleAwaited,
  concurrent: settleConcurrently,
  unawaited: async (trx, job) => {
    void writeEffects(trx, [job])
    void writeEffects(trx, [job])
    throw new Error('Fails before the writes are awaited')
  },
  'past-rollback': async (trx, job) => {
    for (let n = 0; n < 3; n++) void keepWriting(trx, job)
    await writeEffects(trx, [job])
    throw new Error('Fails while writes are still being sent')
  },
  'past-commit': async (trx, job) => {
    for (let n = 0; n < 3; n++) void keepWriting(trx, job)
    await writeEffects(trx, [job])
  },
}

/** Later attempts await every statement, unless the pattern is `concurrent-always`. */
async function settleUnawaited(trx: Transaction<Tables>, job: UnawaitedJob): Promise<void> {
  const { statements = 'awaited' } = job.payload
  if (statements === 'concurrent-always') await settleConcurrently(trx, job)
  else if (job.attempt === 1) await firstAttempts[statements]?.(trx, job)
  else await settleAwaited(trx, job)
}

/** A fifth of the members fail. */
const fails = (token: string) => Number.parseInt(token.replaceAll(/[^0-9a-f]/g, '').slice(-2), 16) % 5 === 0

/**
 * Enqueues the members of a family: three children, of which the second waits for the first and the third is a family
 * too, and a job that waits for the family.
 */
async function foundFamily(trx: Transaction<Tables>, job: SettlingJob<typeof operations.family>): Promise<void> {
  const { id, payload, enqueue } = job
  const tokenOf = (name: string) => ({ token: `${payload.token}/${name}` })
  const first = await enqueue(trx, operations.member, tokenOf('a1'), { child: true })
  const onFailure = fails(tokenOf('b2').token) ? 'cancel' : 'run'
  const second = await enqueue(trx, operations.member, tokenOf('b2'), { child: true, after: [first], onFailure })
  const isNested = payload.token.includes('/')
  const last = isNested ? operations.member : operations.family
  const third = await enqueue(trx, last, tokenOf('c3'), { child: true })
  const next = await enqueue(trx, operations.member, tokenOf('d4'), { after: [id] })
  const ids = { a1: first, b2: second, c3: third, d4: next }
  await addDomainRows(
    trx,
    Object.entries(ids).map(([name, job_id]) => ({ job_id, ...tokenOf(name) })),
  )
}

export default defineHandlers(operations, {
  'intent.family': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      recordExecutions(jobs)
      await writeEffects(trx, jobs)
      for (const job of jobs) await foundFamily(trx, job)
    },
    batchSize: 5,
  },
  'intent.member': {
    perform: async (job) => {
      recordExecutions([job])
      // The retry of a member succeeds.
      if (fails(job.payload.token) && job.idempotencyKey === job.id) throw new JobFailed('member-fails', 'It fails')
      await delay(2)
    },
    settle: writeEffects,
  },
  'intent.ending': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      recordExecutions(jobs)
      await writeEffects(trx, jobs)
    },
  },
  'intent.settle': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      recordExecutions(jobs)
      await writeEffects(trx, jobs)
    },
  },
  'intent.tick': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      recordExecutions(jobs)
      await writeEffects(trx, jobs)
    },
  },
  'intent.perform': {
    perform: async (job) => {
      recordExecutions([job])
      if (process.env.HANG === 'perform') await hang()
      await delay(job.payload.durationMs ?? 5)
    },
    settle: writeEffects,
  },
  'intent.contend': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      recordExecutions(jobs)
      await writeEffects(trx, jobs)
      await contend(trx)
    },
    // Small batches give more concurrent transactions.
    batchSize: 2,
  },
  'intent.group': {
    perform: async (job) => {
      recordExecutions([job])
      await recordSpan(job.id, job.payload.group, () => delay(job.payload.durationMs ?? 5))
    },
    settle: writeEffects,
    // With this concurrency, all workers together could run more jobs at once than the group limits allow.
    concurrency: 4,
  },
  'intent.unawaited': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      recordExecutions(jobs)
      for (const job of jobs) await settleUnawaited(trx, job)
    },
  },
  'intent.fail': {
    perform: async (job) => {
      recordExecutions([job])
      await recordSpan(job.id, undefined, () => delay(job.payload.durationMs ?? 5))
    },
    settle: async (trx: Transaction<Tables>, jobs) => {
      await writeEffects(trx, jobs)
      await assertPermitted(trx, jobs)
    },
  },
  'intent.block': {
    perform: async (job) => {
      recordExecutions([job])
      if (job.payload.blockIn === 'perform') blockOnce('perform')
    },
    settle: async (trx: Transaction<Tables>, jobs) => {
      await writeEffects(trx, jobs)
      if (jobs[0]?.payload.blockIn === 'settle') blockOnce('settle')
    },
    // One job per process, so that the two jobs block different processes.
    concurrency: 1,
  },
  'intent.poison': {
    perform: async (job) => {
      recordExecutions([job])
      await poisons[job.payload.poison ?? 'throw']()
    },
    settle: writeEffects,
    concurrency: 4,
  },
})
