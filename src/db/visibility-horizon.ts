import { type RawBuilder, sql } from 'kysely'

/**
 * The visibility horizon: every change that is dated before it is visible to each statement that starts from now on. A
 * transaction that has written and is still open began after it. Read the horizon in a statement before the one that reads
 * the changes.
 *
 * @param margin an interval by which the horizon is earlier, because a transaction may date its changes before it has an id
 * @param maxAge an interval; transactions that have been open for longer are ignored
 */
export const visibilityHorizon = (margin: RawBuilder<unknown>, maxAge: RawBuilder<unknown>): RawBuilder<Date> => sql`(
  select greatest(min(xact_start) - ${margin}, now() - ${maxAge})
  from pg_stat_activity
  where pid = pg_backend_pid() or backend_xid is not null and datname = current_database()
)`
