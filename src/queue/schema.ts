import { type RawBuilder, sql } from 'kysely'

/**
 * The schema of our pg-boss. An app may use pg-boss itself, in another schema. We never read or migrate that schema.
 */
export const queueSchema = 'accepted_queue'

/** pg-boss's table of jobs, for `from`, `update` and `delete`; its alias is `job`. */
export const queueJob: RawBuilder<unknown> = sql.raw(`${queueSchema}.job`)

/**
 * The partition that contains the jobs of all our queues, for joins with {@link isRow}; its alias is `job`. We create no
 * queue with a partition of its own.
 */
export const queueJobPartition: RawBuilder<unknown> = sql.raw(`${queueSchema}.job_common as job`)

/** pg-boss's table of queues, for `from`; its alias is `queue`. */
export const queueTable: RawBuilder<unknown> = sql.raw(`${queueSchema}.queue`)
