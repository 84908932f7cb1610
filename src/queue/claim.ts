import { type RawBuilder, sql } from 'kysely'
import type { Job } from 'pg-boss'
import { validate as isUuid } from 'uuid'
import type { QueueData } from './boss.ts'
import { queueJob } from './schema.ts'

/** A job that this worker holds: no other worker can claim it until it is completed, failed, released or rescued. */
export interface Claim {
  /**
   * The queue row and the number of its attempt. Statements about the claim check both, so a lost claim changes
   * nothing.
   */
  queued: Pick<Job, 'id' | 'retryCount'>
  /** The id in `accepted.job`. */
  jobId: string
  payload: unknown
  /** Counts from 1. */
  attempt: number
  /** A worker died while it held the job, so the job now runs alone. */
  isQuarantined: boolean
  /** Seconds between the time the job was due and the claim. */
  waitedSeconds: number | undefined
}

/** The columns of a queue row that a claim is created from. */
export type ClaimedRow = Pick<Job<QueueData>, 'id' | 'retryCount' | 'data'>

/** Creates a claim from an active queue row. */
export const claimOf = (
  { id, retryCount, data }: ClaimedRow,
  { isQuarantined = false, waitedSeconds }: { isQuarantined?: boolean; waitedSeconds?: number | undefined } = {},
): Claim => ({
  queued: { id, retryCount },
  // Another program may have inserted the row without a job id. Such a row has no status row and never runs.
  jobId: isUuid(data?.job) ? data.job : id,
  payload: data?.payload,
  attempt: retryCount + 1,
  isQuarantined,
  waitedSeconds,
})

/** A condition on `job`, a queue row: it belongs to one of the claims. */
export const claimIdIn = (claims: readonly Claim[]): RawBuilder<boolean> =>
  sql`job.id = any(${claims.map(({ queued }) => queued.id)}::uuid[])`

/**
 * A condition on `job`, a queue row: it belongs to one of the claims and is still active in the attempt that was
 * claimed. The attempts are passed as one JSON value and looked up by id, because a join with a list compares every row
 * with every element.
 */
export const isHeldIn = (claims: readonly Claim[]): RawBuilder<boolean> => {
  const retryCounts = Object.fromEntries(claims.map(({ queued }) => [queued.id, queued.retryCount]))
  return sql`
    ${claimIdIn(claims)} and job.state = 'active'
    and job.retry_count = (${JSON.stringify(retryCounts)}::jsonb -> job.id::text)::integer`
}

/** A condition on a queue row: its heartbeat is older than `seconds`. */
export const isHeartbeatOlderThan = (seconds: RawBuilder<unknown>): RawBuilder<boolean> =>
  sql`heartbeat_on < now() - make_interval(secs => ${seconds})`

/** A condition on `job`, a queue row: the job waits and is due. */
export const isDue: RawBuilder<boolean> = sql`job.state < 'active' and job.start_after <= now()`

/** A condition on `job`, a queue row: the job waits, is due, and may be claimed together with other jobs. */
export const isClaimable: RawBuilder<boolean> = sql`${isDue} and not job.blocked`

/** The order in which due jobs are claimed. It matches the index that claims use. */
export const claimOrder: RawBuilder<unknown> = sql`job.priority desc, job.created_on`

/** An array expression: the ids in `accepted.job` of those claims that are still held. */
export const heldJobIds = (queue: string, claims: readonly Claim[]): RawBuilder<string[]> => {
  const jobIds = Object.fromEntries(claims.map(({ queued, jobId }) => [queued.id, jobId]))
  return sql`array(
    select (${JSON.stringify(jobIds)}::jsonb ->> id::text)::uuid from ${queueJob} where name = ${queue} and ${isHeldIn(claims)}
  )`
}
