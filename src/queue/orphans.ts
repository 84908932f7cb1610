import { type RawBuilder, sql } from 'kysely'
import { isDue, isHeartbeatOlderThan } from './claim.ts'
import { heartbeatIntervalMs } from './heartbeat.ts'
import { queueJob } from './schema.ts'

/**
 * A subselect of queue rows whose heartbeat is overdue, the oldest heartbeat first. Columns: name, id, retry_count,
 * data.
 *
 * @param queue an expression: the name of the queue
 * @param heartbeatSeconds an expression: the age in seconds at which a heartbeat is overdue
 */
export const orphanedJobs = (
  queue: RawBuilder<unknown>,
  heartbeatSeconds: RawBuilder<unknown>,
  limit: number,
): RawBuilder<unknown> => sql`(
  select name, id, retry_count, data from ${queueJob}
  where name = ${queue} and state = 'active' and started_on is not null and ${isHeartbeatOlderThan(heartbeatSeconds)}
  order by heartbeat_on limit ${limit}
)`

/** Builds a condition that is true when another active job has missed two heartbeats. */
export const isAnotherHeartbeatMissing = (
  queue: RawBuilder<unknown>,
  queueId: RawBuilder<unknown>,
): RawBuilder<boolean> =>
  sql`exists (
    select from ${queueJob} other
    where other.state = 'active' and other.started_on is not null
      and other.heartbeat_on < now() - make_interval(secs => ${(2 * heartbeatIntervalMs) / 1000})
      and (other.name, other.id) <> (${queue}, ${queueId})
  )`

/** A condition: the quarantined job waits and is due. */
export const isQuarantinedJobDue = (queue: RawBuilder<unknown>, queueId: RawBuilder<unknown>): RawBuilder<boolean> =>
  sql`exists (select from ${queueJob} where name = ${queue} and id = ${queueId} and blocked and ${isDue})`
