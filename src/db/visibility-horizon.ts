import { type RawBuilder, sql } from 'kysely'

/**
 * The visibility horizon: every change that is dated before it is visible to statements that start from now on, because
 * every open transaction that has written began later. Read the horizon in an earlier statement than the changes.
 *
 * @param margin an interval to subtract, because a transaction may set the timestamp of a change before it has an id
 * @param maxAge an interval; transactions that have been open for longer are ignored
 */
export const visibilityHorizon = (margin: RawBuilder<unknown>, maxAge: RawBuilder<unknown>): RawBuilder<Date> => sql`(
  select greatest(min(xact_start) - ${margin}, now() - ${maxAge})
  from pg_stat_activity
  where pid = pg_backend_pid() or backend_xid is not null and datname = current_database()
)`
