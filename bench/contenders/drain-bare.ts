// What can be had at most: the same rows and the same two commits per batch, written by hand in a loop, without retries,
// heartbeats, fairness, notifications or any other feature.
import pg from 'pg'
import { drainRate, serveDrainer } from './drain-process.ts'

const batchSize = 400
const connections = 2

const connectionString = process.env.DATABASE_URL as string
const pool = new pg.Pool({ connectionString, max: connections })
await pool.query(`
  create table job (
    id uuid primary key, operation text not null, status text not null default 'queued', principal text not null,
    idempotency_key text, attempt integer not null default 0, max_attempts integer not null,
    sequence bigint not null default 1, cancel_requested boolean not null default false, percent integer,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
    started_at timestamptz, ended_at timestamptz, expires_at timestamptz not null
  ) with (fillfactor = 45);
  create index on job (principal, id);
  create table processed_key (
    operation text, principal text, key text, job_id uuid not null, processed_at timestamptz not null default now(),
    primary key (operation, principal, key)
  );
  create table queue (
    id uuid not null, name text not null, data jsonb, priority integer not null default 0,
    state text not null default 'created', retry_limit integer not null, retry_delay integer not null,
    start_after timestamptz not null default now(), created_on timestamptz not null default now(),
    started_on timestamptz, heartbeat_on timestamptz, keep_until timestamptz not null, primary key (name, id)
  );
  create index on queue (name, priority desc, created_on, start_after) where state = 'created'`)

const claim = {
  name: 'claim',
  text: `
    with next as (
      select id from queue where name = 'note.create' and state = 'created' and start_after <= now()
      order by priority desc, created_on limit ${batchSize} for update skip locked
    )
    update queue set state = 'active', started_on = now(), heartbeat_on = now()
    from next where queue.name = 'note.create' and queue.id = next.id returning queue.id, queue.data`,
}

const settle = {
  name: 'settle',
  text: `
    with ours as materialized (
      select id, principal, idempotency_key from job
      where id = any($1::uuid[]) and status in ('queued', 'running') order by id for update
    ), keys as (
      insert into processed_key (operation, principal, key, job_id)
      select 'note.create', principal, idempotency_key, id from ours on conflict do nothing
    ), ended as (
      update job set status = 'succeeded', percent = 100, attempt = 1, started_at = now(),
        ended_at = statement_timestamp(), updated_at = statement_timestamp(), sequence = sequence + 1,
        expires_at = now() + interval '7 days'
      from ours where job.id = ours.id
    )
    delete from queue using ours where queue.name = 'note.create' and queue.id = ours.id and queue.state = 'active'`,
}

/** Settles all jobs, one batch after another. */
async function work(deadline: number): Promise<void> {
  while (performance.now() < deadline) {
    const { rows } = await pool.query<{ id: string }>(claim)
    if (rows.length === 0) return
    await pool.query({ ...settle, values: [rows.map(({ id }) => id)] })
  }
}

serveDrainer({
  async fill(jobs) {
    await pool.query('truncate job, queue, processed_key')
    await pool.query(
      `with made as (
        insert into job (id, operation, principal, idempotency_key, max_attempts, expires_at)
        select (lpad(to_hex(extract(epoch from now())::bigint * 1000), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
          'note.create', 'ann', 'key-' || n, 4, now() + interval '7 days'
        from generate_series(1, $1) n returning id
      )
      insert into queue (id, name, data, retry_limit, retry_delay, keep_until, created_on)
      select id, 'note.create', jsonb_build_object('noteId', id), 3, 1, now() + interval '14 days', clock_timestamp() from made`,
      [jobs],
    )
  },
  async drain({ atMostSeconds }) {
    const deadline = performance.now() + atMostSeconds * 1000
    await Promise.all(Array.from({ length: connections }, () => work(deadline)))
    return drainRate(connectionString, "select ended_at as at from job where status = 'succeeded'")
  },
})
