import { appendFileSync, closeSync, existsSync, openSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { defineHandlers, JobFailed, type SettlingJob } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import * as operations from './operations.ts'
import { contend, type Tables } from './operations.ts'

// A file, for what Postgres rolls back or is not there to take has been executed all the same.
const log = process.env.EXECUTIONS as string

/** A line of the file beside it: the begin of a job's work, or its end. */
export interface Span {
  pid: number
  id: string
  group: string | undefined
  what: 'begin' | 'end'
  /** In nanoseconds. */
  at: number
}

/** Records that a job is executed now. */
const execute = (jobs: readonly { id: string }[]) => appendFileSync(log, jobs.map(({ id }) => `${id}\n`).join(''))

/** Records when a job is at work, by a clock that all processes of this machine share. */
async function atWork(id: string, group: string | undefined, work: () => Promise<void>): Promise<void> {
  const record = (what: Span['what']) => {
    const span: Span = { pid: process.pid, id, group, what, at: Number(process.hrtime.bigint()) }
    appendFileSync(`${log}-spans`, `${JSON.stringify(span)}\n`)
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
    .execute()
  // The harness may stop or kill the process here, in the middle of the transaction.
  if (process.env.HANG === 'settle') await hang()
}

/** Tells the harness, and waits until it says to go on. */
async function hang(): Promise<void> {
  const goOn = new Promise((resolve) => process.once('message', resolve))
  process.send?.('hanging')
  await goOn
}

const misdeeds = {
  throw: async () => {
    throw new Error('poison')
  },
  'reject-late': async () => {
    // Nobody awaits it, and when it rejects the attempt may be over.
    void delay(100).then(() => {
      throw new Error('poison, late')
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
  jobs: readonly SettlingJob<typeof operations.faulty>[],
): Promise<void> {
  const tokens = jobs.map(({ payload }) => payload.token)
  const permitted = await trx.selectFrom('permission').select('token').where('token', 'in', tokens).execute()
  if (permitted.length < jobs.length) throw new JobFailed('not-permitted', 'The harness does not permit it yet')
}

/** Keeps the event loop from turning until the harness says to go on; once, whichever process comes first. */
function hogOnce(where: 'perform' | 'settle'): void {
  try {
    closeSync(openSync(`${log}-hog-${where}`, 'wx'))
  } catch {
    return
  }
  // Stands still instead of computing: others need the processor.
  const nothing = new Int32Array(new SharedArrayBuffer(4))
  while (!existsSync(`${log}-go-on`)) Atomics.wait(nothing, 0, 0, 20)
}

type Careless = SettlingJob<typeof operations.careless>

/** Goes on writing, whatever becomes of it, until long after it has been refused for the first time. */
async function goOnWriting(trx: Transaction<Tables>, { id }: Careless): Promise<void> {
  let refused = 0
  for (let count = 0; count < 1_000 && refused < 50; count++) {
    try {
      await trx.insertInto('stray').values({ job_id: id }).execute()
    } catch {
      refused += 1
      await new Promise(setImmediate)
    }
  }
}

const carelessness: Record<string, (trx: Transaction<Tables>, job: Careless) => Promise<unknown>> = {
  not: (trx, job) => writeEffects(trx, [job]),
  together: async (trx, job) => {
    const write = () => writeEffects(trx, [job])
    // Those behind the one that fails wait for their turn when the transaction is rolled back.
    await Promise.all([write(), sql`select 1 / 0`.execute(trx), write(), write()])
  },
  unawaited: async (trx, job) => {
    void writeEffects(trx, [job])
    void writeEffects(trx, [job])
    throw new Error('careless')
  },
  'past-rollback': async (trx, job) => {
    for (let n = 0; n < 3; n++) void goOnWriting(trx, job)
    await writeEffects(trx, [job])
    throw new Error('careless')
  },
  'past-commit': async (trx, job) => {
    for (let n = 0; n < 3; n++) void goOnWriting(trx, job)
    await writeEffects(trx, [job])
  },
}

/** Careless in the first attempt; in the next, as one should be. */
async function settleCarelessly(trx: Transaction<Tables>, job: Careless): Promise<void> {
  const { careless = 'not' } = job.payload
  if (careless === 'together-always') await carelessness.together?.(trx, job)
  else await carelessness[job.attempt === 1 ? careless : 'not']?.(trx, job)
}

export default defineHandlers(operations, {
  'intent.settle': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      execute(jobs)
      await writeEffects(trx, jobs)
    },
  },
  'intent.tick': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      execute(jobs)
      await writeEffects(trx, jobs)
    },
  },
  'intent.perform': {
    perform: async (job) => {
      execute([job])
      if (process.env.HANG === 'perform') await hang()
      await delay(job.payload.takes ?? 5)
    },
    settle: writeEffects,
  },
  'intent.contend': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      execute(jobs)
      await writeEffects(trx, jobs)
      await contend(trx)
    },
    // More transactions at once.
    batchSize: 2,
  },
  'intent.group': {
    perform: async (job) => {
      execute([job])
      await atWork(job.id, job.payload.group, () => delay(job.payload.takes ?? 5))
    },
    settle: writeEffects,
    // All of the workers have more slots than the groups have turns.
    concurrency: 4,
  },
  'intent.careless': {
    settle: async (trx: Transaction<Tables>, jobs) => {
      execute(jobs)
      for (const job of jobs) await settleCarelessly(trx, job)
    },
  },
  'intent.faulty': {
    perform: async (job) => {
      execute([job])
      await atWork(job.id, undefined, () => delay(job.payload.takes ?? 5))
    },
    settle: async (trx: Transaction<Tables>, jobs) => {
      await writeEffects(trx, jobs)
      await assertPermitted(trx, jobs)
    },
  },
  'intent.hog': {
    perform: async (job) => {
      execute([job])
      if (job.payload.hog === 'perform') hogOnce('perform')
    },
    settle: async (trx: Transaction<Tables>, jobs) => {
      await writeEffects(trx, jobs)
      if (jobs[0]?.payload.hog === 'settle') hogOnce('settle')
    },
    // Each of the jobs hogs a process of its own.
    concurrency: 1,
  },
  'intent.poison': {
    perform: async (job) => {
      execute([job])
      await misdeeds[job.payload.poison ?? 'throw']()
    },
    settle: writeEffects,
    concurrency: 4,
  },
})
