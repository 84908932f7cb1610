import { type RawBuilder, sql } from 'kysely'

/**
 * Builds an expression for the visibility horizon. Statements that start from now on see every change whose timestamp
 * is before the horizon, because all open transactions that have written began after the horizon. Read the horizon
 * first, and the changes in a later statement.
 *
 * @param margin an interval that is subtracted, because a transaction may choose the timestamp of a change before it
 *   gets its transaction id
 * @param maxAge an interval. Transactions that have been open for longer are ignored.
 */
export const visibilityHorizon = (margin: RawBuilder<unknown>, maxAge: RawBuilder<unknown>): RawBuilder<Date> => sql`(
  select greatest(min(xact_start) - ${margin}, now() - ${maxAge})
  from pg_stat_activity
  where pid = pg_backend_pid() or backend_xid is not null and datname = current_database()
)`
