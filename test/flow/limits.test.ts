import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { concurrency, narrow, paced, rate, schema } from './limits/operations.ts'

t.jobs = 2

const config = join(import.meta.dirname, 'limits/accepted.config.ts')
const workerCount = 4

async function setUp(t: Test) {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  const query = async (text: string, values?: unknown[]) => (await database.pool.query(text, values)).rows
  const startWorker = () => start(t, 'worker', { config, databaseUrl })
  const workers = await Promise.all(Array.from({ length: workerCount }, startWorker))
  const enqueue = (operation: string, tenant: string, count: number) =>
    query("select accepted.enqueue($1, jsonb_build_object('tenant', $2::text)) from generate_series(1, $3)", [
      ...[operation, tenant, count],
    ])
  return { query, workers, startWorker, enqueue }
}

/** Counts how many of the times lie in the fullest window. */
const countInFullestWindow = (times: readonly number[], windowMs: number): number =>
  Math.max(...times.map((from) => times.filter((time) => time >= from && time < from + windowMs).length))

t.test(`${workerCount} workers together keep a rate in every window`, async (t) => {
  const { query, enqueue } = await setUp(t)
  const { starts, periodSeconds } = rate
  // What the limit counts is the claim. On a busy machine, the handler may start much later.
  await query(`
    create table claimed (at timestamptz not null default clock_timestamp());
    grant insert on claimed to public;
    create function record_claim() returns trigger language plpgsql as $$
      begin insert into public.claimed default values; return null; end $$;
    create trigger record_claim after update on accepted_queue.job for each row
      when (old.state < 'active' and new.state = 'active') execute function record_claim()`)
  const total = 2 * starts + 1
  await enqueue(paced.name, 'a', total)
  await until(async () => (await query('select from span where ended_at is not null')).length === total)
  const claimed = await query('select extract(epoch from at)::float8 * 1000 as ms from claimed order by at')
  const claims = claimed.map(({ ms }) => ms as number)
  t.equal(claims.length, total)
  const most = countInFullestWindow(claims, periodSeconds * 1000)
  t.ok(most <= starts + 1, `the fullest window has ${most} claims`)
  const seconds = ((claims.at(-1) as number) - (claims[0] as number)) / 1000
  t.comment(`${total - 1} claims of ${((seconds * starts) / periodSeconds).toFixed(1)} allowed in ${seconds} s`)
  const pids = await query('select distinct pid from span')
  t.comment(`${pids.length} of ${workerCount} workers have started jobs`)
})

t.test('no tenant exceeds its concurrency although workers are killed, and every job runs', async (t) => {
  const { query, workers, startWorker, enqueue } = await setUp(t)
  const tenants = ['a', 'b', 'c']
  const perTenant = 40
  for (const tenant of tenants) await enqueue(narrow.name, tenant, perTenant)
  let killed = 0
  for (let kills = 0; kills < 3; kills++) {
    const busy = await until(async () => {
      const rows = await query('select pid from span where ended_at is null')
      return workers.find(({ process }) => rows.some(({ pid }) => pid === process.pid))
    })
    await busy.end('SIGKILL')
    // A handler that was killed has ended.
    const cut = await query(
      'update span set ended_at = clock_timestamp() where pid = $1 and ended_at is null returning job_id',
      [busy.process.pid],
    )
    killed += cut.length
  }
  await startWorker()
  const total = tenants.length * perTenant
  // The jobs that were killed are rescued, and then run in quarantine.
  for (const count of [total - killed, total]) {
    await until(async () => {
      const rows = await query("select from accepted.job where status = 'succeeded'")
      return rows.length >= count
    })
  }
  t.ok(killed > 0, `${killed} running jobs were killed`)
  const most = await query(`
    select tenant, max(running)::int as running from (
      select one.tenant, (
        select count(*) from span other
        where other.tenant = one.tenant and other.started_at <= one.started_at and other.ended_at > one.started_at
      ) as running
      from span one
    ) starts
    group by tenant order by tenant`)
  t.same(
    most,
    tenants.map((tenant) => ({ tenant, running: concurrency })),
    'each tenant has reached its concurrency, and has not exceeded it',
  )
})
