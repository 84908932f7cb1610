import { type Kysely, sql } from 'kysely'
import { retryOnContention } from '../src/db/transaction-retry.ts'
import { queueJob, queueSchema } from '../src/queue/schema.ts'

/** These tables contain times of schedules, which have their own clock, or times that nothing waits for. */
const unshifted = 'schedule, schedule_request, audit, migration, app_migration, operation, worker, throughput_hour'

/**
 * Makes time pass: moves all stored times into the past, in one transaction. Jobs then become due, and records expire,
 * by the clock of the server. Shifts the tables of Accepted and the jobs of pg-boss, not the tables of the app.
 */
export async function shiftTimes(db: Kysely<unknown>, ms: number): Promise<void> {
  // Only the owner may disable the triggers. They refuse changes of ended jobs, and would record the changes.
  const shift = sql.raw(`do $$
    declare
      one record;
      has_rows boolean;
    begin
      for one in
        select c.oid::regclass as name, pg_get_userbyid(c.relowner) as owner, c.relhastriggers as has_triggers,
          string_agg(format('%1$I = %1$I - interval ''${ms} milliseconds''', attname), ', ') as moves
        from pg_class c join pg_attribute on attrelid = c.oid and atttypid = 'timestamptz'::regtype
        where attnum > 0 and not attisdropped and c.relkind in ('r', 'p') and not c.relispartition
          and (relnamespace = 'accepted'::regnamespace and relname <> all(string_to_array('${unshifted}', ', '))
            or relnamespace = '${queueSchema}'::regnamespace and relname = 'job')
        group by c.oid
        order by c.oid
      loop
        execute format('set local role %I', one.owner);
        execute format('select exists (select from %s)', one.name) into has_rows;
        continue when not has_rows;
        if one.has_triggers then
          execute format('alter table %s disable trigger user', one.name);
        end if;
        execute format('update %s set %s', one.name, one.moves);
        if one.has_triggers then
          execute format('alter table %s enable trigger user', one.name);
        end if;
      end loop;
    end $$`)
  await retryOnContention(() => shift.execute(db))
}

/**
 * Returns in how many milliseconds the next job, schedule or decided end becomes due; undefined if none ever does.
 *
 * @param now the time of the schedules
 */
export async function msUntilDue(db: Kysely<unknown>, now: Date): Promise<number | undefined> {
  const { rows } = await sql<{ ms: number | null }>`
    select ceil(extract(epoch from least(
      (
        select min(start_after) - now() from ${queueJob}
        where state < 'active' and not blocked and start_after > now() and start_after < 'infinity'
      ),
      (select min(next_at) - now() from accepted.limit_key where next_at > now() and next_at < 'infinity'),
      (select min(due_at) - now() from accepted.limit_arrival where due_at > now() and due_at < 'infinity'),
      (select min(due_at) - now() from accepted.ending where due_at > now()),
      (select min(next_at) - ${now.toISOString()}::timestamptz from accepted.schedule)
    )) * 1000)::float8 as ms`.execute(db)
  return rows[0]?.ms ?? undefined
}
