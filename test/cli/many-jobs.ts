import type { Test } from 'tap'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'

/** A database with many jobs, in which Postgres uses generic plans. */
export async function fillJobs(t: Test, count: number) {
  const { pool, options } = await openTestDatabase(t)
  await pool.query(
    `insert into accepted.job (id, operation, principal, status, max_attempts, error, ended_at, expires_at, parent,
      resource, idempotency_key)
    select accepted.uuid7(), 'todo.create', 'p' || n % 1000,
      case when n % 4 = 0 then 'failed' else 'succeeded' end::accepted.job_status, 1,
      case when n % 4 = 0 then '{"code": "handler-error", "message": "No luck"}'::jsonb end, now(), now() + interval '9 days',
      case when n % 10 = 0 then (select accepted.uuid7()) end, '/todos/' || n, 'key ' || n
    from generate_series(1, $1::integer) n order by n`,
    [count],
  )
  await pool.query('vacuum analyze accepted.job, accepted.ended_job')
  await pool.query(`
    do $$ begin execute format('alter database %I set plan_cache_mode = force_generic_plan', current_database()); end $$`)
  const countReads = async (): Promise<number> => {
    await pool.query('select pg_stat_clear_snapshot()')
    const { rows } = await pool.query(`
      select (select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables)::integer
        + (select sum(idx_tup_read) from pg_stat_user_indexes)::integer as reads`)
    return rows[0].reads
  }
  /** Runs `jobs list`. Returns what it printed, and the number of rows and index entries that were read. */
  const list = async (...args: string[]) => {
    const before = await countReads()
    const { code, out, err } = await run(['jobs', 'list', '--json', ...args], { DATABASE_URL: options.url })
    t.equal(code, 0, err)
    return { jobs: JSON.parse(out) as { id: string; resource: string }[], err, reads: (await countReads()) - before }
  }
  return { pool, list }
}
