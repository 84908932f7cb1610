import { createNote } from '../app/operations.ts'
import { costPer, startCost } from '../core/cost.ts'
import { pgbench } from '../core/pgbench.ts'
import type { Contender } from '../core/scenario.ts'
import { query } from '../core/server.ts'
import { fill } from './drain-accepted.ts'
import type { DrainLoad } from './drain-process.ts'

const batchSize = 400
const clients = 4

/** Writes the same rows as our worker, in batches, but from pgbench (a C program). */
export const floor: Contender<DrainLoad> = {
  name: `pgbench, same rows, batches of ${batchSize}`,
  async open({ server, directory }) {
    const database = 'drain_pgbench'
    const databaseUrl = await server.createOurs(database)
    return {
      async measure({ jobs }) {
        const runs = Math.max(1, Math.floor(jobs / batchSize / clients))
        const expected = runs * clients * batchSize
        await fill(databaseUrl, createNote, expected)
        const stopCost = await startCost(server, database, [])
        const perSecond = await pgbench(directory, databaseUrl, { script, clients, end: { runs } })
        const [row] = await query<{ completed: number }>(
          databaseUrl,
          "select count(*)::int as completed from accepted.job where status = 'succeeded'",
        )
        if (row?.completed !== expected) throw new Error(`${row?.completed} of ${expected} jobs completed`)
        const { processCpu, ...cost } = costPer(await stopCost(), expected)
        return { completed: expected, perSecond: perSecond * batchSize, ...cost }
      },
      close: () => server.dropDatabase(database),
    }
  },
}

/** As in the worker, the claim commits first, and a second transaction completes the jobs. */
const script = `
with next as (
  select id from accepted_queue.job
  where name = 'note.create' and state < 'active' and not blocked and start_after <= now()
  order by priority desc, created_on limit ${batchSize} for update skip locked
), claimed as (
  update accepted_queue.job set state = 'active', started_on = now(), heartbeat_on = now()
  from next where job.name = 'note.create' and job.id = next.id returning job.id
) select array_agg(id)::text as ids from claimed \\gset
begin;
select id, principal, idempotency_key, attempt, max_attempts from accepted.job
  where id = any(:ids::uuid[]) and status in ('queued', 'running') order by id for update;
insert into accepted.processed_key (operation, principal, key, job_id)
  select operation, principal, idempotency_key, id from accepted.job where id = any(:ids::uuid[])
  order by principal, idempotency_key on conflict on constraint processed_key_pkey do nothing;
update accepted.job set status = 'succeeded', percent = 100, attempt = 1, started_at = coalesce(started_at, now()),
  ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
  expires_at = now() + interval '7 days'
  where id = any(:ids::uuid[]) and status in ('queued', 'running');
delete from accepted_queue.job_common
  where name = 'note.create' and id = any(:ids::uuid[]) and state = 'active';
commit;
`
