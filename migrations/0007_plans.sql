-- As before, but the rows that are updated are looked up by their ids, and not joined: a join that was planned while the
-- queue was empty read all of it. And floor reads the same whatever the style of dates.
create or replace function accepted.claim(queue text, most integer, created_from timestamptz)
  returns table (id uuid, retry_count integer, data jsonb, waited double precision, floor text)
  language plpgsql
  -- Always by the index that has them in order, also where the plan was made while the queue was empty.
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  with next as materialized (
    select job.id from pgboss.job
    where job.name = queue and job.state < 'active' and not job.blocked and job.start_after <= now()
      and job.created_on >= created_from
    order by job.priority desc, job.created_on
    limit most
    for update skip locked
  ), claimed as (
    update pgboss.job set
      state = 'active', started_on = now(), heartbeat_on = now(),
      retry_count = job.retry_count + case when job.started_on is null then 0 else 1 end
    where job.name = queue and job.id = any(array(select next.id from next))
    returning job.id, job.retry_count, job.data, job.created_on, job.start_after
  )
  select
    claimed.id, claimed.retry_count, claimed.data, extract(epoch from now() - claimed.start_after)::float8,
    to_char((min(claimed.created_on) over ()) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  from claimed;
end
$$;

comment on table accepted.reconciliation is 'One row: how far the workers have compared accepted.job with pgboss.job. They take turns at it, a piece each five seconds, round and round.';
