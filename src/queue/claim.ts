import { type RawBuilder, sql } from 'kysely'
import type { Job } from 'pg-boss'
import { validate as isUuid } from 'uuid'
import { isRow } from '../db/row-lookup.ts'
import type { BegunJob } from './begun-job.ts'
import type { QueueData } from './boss.ts'
import { queueJob, queueJobPartition } from './schema.ts'

/** A job that this worker holds: no other worker can claim it until it is completed, failed, released or rescued. */
export interface Claim {
  /**
   * The id and the retry count of the queue row. Every statement on a claim checks both, so it changes nothing when the
   * claim is lost.
   */
  queued: Pick<Job, 'id' | 'retryCount'>
  /** The id in `accepted.job`. */
  jobId: string
  payload: unknown
  /** The number of the attempt, from 1. */
  attempt: number
  /** Whether the job now runs in quarantine, because a worker died while it held the job. */
  isQuarantined: boolean
  /** Seconds from when the job was due until it was claimed. */
  waitedSeconds: number | undefined
  /** The limit key of the job; undefined when its operation has no limit. */
  limitKey?: string | undefined
  /** The row of the job, if the transaction that claimed the job has also set it to running. */
  begun?: BegunJob | undefined
}

/** The columns of a queue row that a claim needs. */
export type ClaimedRow = Pick<Job<QueueData>, 'id' | 'retryCount' | 'data'>

/** The select list for a {@link ClaimedRow}. */
export const claimedColumns = sql`id, retry_count as "retryCount", data`

/** Creates a claim from an active queue row. */
export const claimOf = (
  { id, retryCount, data }: ClaimedRow,
  { isQuarantined = false, waitedSeconds, limitKey, begun }: Partial<Claim> = {},
): Claim => ({
  queued: { id, retryCount },
  // Another program may have inserted the row without a job id. Then `accepted.job` has no such job, and it never runs.
  jobId: isUuid(data?.job) ? data.job : id,
  payload: data?.payload,
  attempt: retryCount + 1,
  isQuarantined,
  waitedSeconds,
  limitKey,
  begun,
})

/** A list of claims for `from`, with the alias `claim`. */
export const claimList = (claims: readonly Claim[]): RawBuilder<unknown> => sql`
  unnest(
    ${claims.map(({ queued }) => queued.id)}::uuid[],
    ${claims.map(({ queued }) => queued.retryCount)}::integer[]
  ) as claim (id, retry_count)`

/**
 * A join condition on `job`, a queue row, and `claim`, an element of a list of claims: the row belongs to the claim,
 * and is still active in the claimed attempt. Set {@link useGenericPlan} first.
 *
 * @param queue an expression: the name of the queue
 */
export const isHeldBy = (queue: RawBuilder<unknown>): RawBuilder<boolean> => sql`
  ${isRow([sql`job.name`, sql`job.id`], [queue, sql`claim.id`])}
  and job.state = 'active' and job.retry_count = claim.retry_count`

/** The name of a queue as an expression, for {@link isHeldBy}. */
export const queueName = (queue: string): RawBuilder<string> => sql`${queue}::text`

/**
 * An expression: the payload in a queue row. Unlike the payload of a {@link Claim}, it has exactly the numbers that were
 * enqueued.
 */
export const payloadInQueue = (queue: RawBuilder<unknown>, id: RawBuilder<unknown>): RawBuilder<unknown> => sql`(
  select row.data -> 'payload' from ${queueJob} row where row.name = ${queue} and row.id = ${id}
)`

/** A condition on a queue row: its heartbeat is older than `seconds`. */
export const isHeartbeatOlderThan = (seconds: RawBuilder<unknown>): RawBuilder<boolean> =>
  sql`heartbeat_on < now() - make_interval(secs => ${seconds})`

/** A condition on `job`, a queue row: the job waits and is due. */
export const isDue: RawBuilder<boolean> = sql`job.state < 'active' and job.start_after <= now()`

/** An expression: for the `accepted.job` id of each claim that is still held, the number of its attempt. */
export const heldAttempts = (queue: string, claims: readonly Claim[]): RawBuilder<unknown> => sql`(
  select jsonb_object_agg(claim.job_id, claim.retry_count + 1)
  from unnest(
    ${claims.map(({ queued }) => queued.id)}::uuid[],
    ${claims.map(({ queued }) => queued.retryCount)}::integer[],
    ${claims.map(({ jobId }) => jobId)}::uuid[]
  ) as claim (id, retry_count, job_id)
  join ${queueJobPartition} on ${isHeldBy(queueName(queue))}
)`
