import { type RawBuilder, sql } from 'kysely'

/** The schema of our own pg-boss. An app's pg-boss in its own schema is never read or migrated. */
export const queueSchema = 'accepted_queue'

/** pg-boss's table of jobs, for `from`, `update` and `delete`; its alias is `job`. */
export const queueJob: RawBuilder<unknown> = sql.raw(`${queueSchema}.job`)

/** pg-boss's table of queues, for `from`; its alias is `queue`. */
export const queueTable: RawBuilder<unknown> = sql.raw(`${queueSchema}.queue`)
