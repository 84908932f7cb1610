import { sql } from 'kysely'
import { currentTransactionId, registerCommitCheck } from '../db/commit-check.ts'
import { commitStatement, pipeline } from '../db/pipeline.ts'
import { runWithGenericPlan } from '../db/plan-settings.ts'
import { milliseconds } from '../db/timestamp.ts'
import type { AnyTransaction } from '../operation.ts'
import type { PgBoss } from '../queue/boss.ts'
import { insertMany } from '../queue/insert-many.ts'
import { prepareInserts, runInsert, runInsertBeforeCommit } from '../queue/queue-inserts.ts'
import { idIn, type Job, jobAsJson, jobFromJson } from './job.ts'
import { insertProof, type NewJob, prepareInsert, toInserted } from './new-job.ts'
import { noSeals, type Seals } from './seals.ts'

/** Options of a job that is enqueued from code. */
export interface EnqueueOptions {
  /**
   * Idempotency key. Among jobs with the same operation, principal and key, only the job that succeeds first has an
   * effect. The other jobs succeed with the result of that job. Default: no deduplication.
   */
  key?: string
  /**
   * The owner of the job: the only principal that sees the job over HTTP. Default: `anonymous`. A follow-up job has the
   * principal of the job that enqueues it.
   */
  principal?: string
  /** The earliest start. Default: now. */
  runAt?: Date
  /** A job with a higher priority starts first. Default: the operation's priority. */
  priority?: number
  /**
   * Path of the resource that the job creates, for example `/todos/1`. On success, clients are redirected to this path.
   */
  resource?: string
  /**
   * The ids of jobs that must end before this job starts; at most 100. This job is `queued` until then. Jobs of any
   * operation and principal are allowed, also batches and jobs that have ended. Default: none.
   */
  after?: readonly string[]
  /**
   * What happens if one of the jobs in `after` fails or is canceled. `cancel`: this job is canceled at once. `run`: this
   * job starts as if that job had succeeded. Default: `cancel`.
   */
  onFailure?: 'cancel' | 'run'
}

/**
 * Inserts the status rows and the queue rows of new jobs within the transaction. Sends one statement for all status
 * rows, and one statement per operation for the queue rows.
 *
 * @param seals required for operations that seal members
 * @returns the jobs, in the given order
 * @throws TypeError when `runAt` is not a Date between the years 1 and 9900, or when a job has no valid limit key
 */
export async function enqueue(
  boss: PgBoss,
  givenTrx: AnyTransaction,
  jobs: readonly NewJob[],
  seals: Seals = noSeals,
): Promise<Job[]> {
  const { trx, statement, entries } = prepareInsert(givenTrx, jobs, seals)
  // Returning the rows would take as long as inserting them. Everything in them is known, except the time.
  const inserting = sql<{ now_ms: string; transaction_id: string }>`
    with made as (${statement} returning 1)
    select ${milliseconds(sql`now()`)} as now_ms, ${currentTransactionId} as transaction_id
    from (select count(*) from made) as counted`
  const inserts = await prepareInserts(boss, entries)
  const [{ rows }] = await pipeline(trx, (trx) => [
    inserting.execute(trx),
    ...inserts.map((insert) => runInsert(trx, insert)),
  ])
  await addDependencies(trx, jobs)
  const [row] = rows
  registerCommitCheck(givenTrx, {
    transactionId: row?.transaction_id,
    commitProof: insertProof(jobs[0]?.id),
  })
  const now = new Date(Number(row?.now_ms))
  // A job that waits for others has changed since it was inserted.
  const waiting = jobs.filter(({ after = [] }) => after.length > 0).map(({ id }) => id)
  const changed = waiting.length > 0 ? await readJobs(trx, waiting) : []
  const byId = new Map(changed.map(({ job }) => jobFromJson(job)).map((job) => [job.id, job]))
  return jobs.map((job) => byId.get(job.id) ?? toInserted(job, now))
}

/**
 * Inserts new jobs like {@link enqueue}, and commits the transaction, in one round trip. {@link toInserted} returns the
 * jobs. Register a commit check with an `outcome` before.
 */
export async function enqueueAndCommit(
  boss: PgBoss,
  givenTrx: AnyTransaction,
  jobs: readonly Omit<NewJob, 'after'>[],
  seals: Seals = noSeals,
): Promise<void> {
  const { trx, statement, entries } = prepareInsert(givenTrx, jobs, seals)
  const inserts = await prepareInserts(boss, entries)
  await pipeline(trx, (trx) => [
    statement.execute(trx),
    ...inserts.map((insert) => runInsertBeforeCommit(trx, insert)),
    commitStatement(trx),
  ])
}

/** Inserts jobs like {@link enqueue}, without reading them: that would take half of the time. */
export async function enqueueUnread(
  givenTrx: AnyTransaction,
  jobs: readonly NewJob[],
  seals: Seals = noSeals,
): Promise<void> {
  const { trx, statement, entries } = prepareInsert(givenTrx, jobs, seals)
  await pipeline(trx, (trx) => [statement.execute(trx), insertMany(trx, entries)])
}

async function readJobs(trx: AnyTransaction, ids: readonly string[]): Promise<{ job: string }[]> {
  const statement = sql<{ job: string }>`select ${jobAsJson} as job from accepted.job where ${idIn(ids)}`
  return (await runWithGenericPlan(trx, statement)).rows
}

/** Makes those of the new jobs wait that have `after`. */
export async function addDependencies(
  trx: AnyTransaction,
  jobs: readonly Pick<NewJob, 'id' | 'after' | 'onFailure'>[],
): Promise<void> {
  for (const { id, after = [], onFailure = 'cancel' } of jobs) {
    if (after.length === 0) continue
    // Prisma reads no column of the type void.
    await sql`select accepted.add_dependencies(${id}, ${after}::uuid[], ${onFailure})::text`.execute(trx)
  }
}
