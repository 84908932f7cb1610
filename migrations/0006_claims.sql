-- Whoever asks for state = 'active' alone, as pg-boss does when it ends jobs, is to come in by the primary key: while
-- an old snapshot is held, an index of what was active is full of what is not any more.
drop index pgboss.accepted_held_idx;
create index accepted_active_idx on pgboss.job (name) where state = 'active' and started_on is not null;
create index accepted_unsuccessful_idx on pgboss.job (completed_on) where state in ('cancelled', 'failed');

create function accepted.claim(queue text, most integer, created_from timestamptz)
  returns table (id uuid, retry_count integer, data jsonb, waited double precision, floor text)
  language plpgsql
  -- Always by the index that has them in order, also where the plan was made while the queue was empty.
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
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
    from next
    where job.name = queue and job.id = next.id
    returning job.id, job.retry_count, job.data, job.created_on, job.start_after
  )
  select
    claimed.id, claimed.retry_count, claimed.data, extract(epoch from now() - claimed.start_after)::float8,
    (min(claimed.created_on) over ())::text
  from claimed;
end
$$;

comment on function accepted.claim is 'Claims jobs that are due, at most so many, that were created at a time or later: those of higher priority first, and of these the oldest. floor is when the oldest of them was created. While an old snapshot is held, everything that has been claimed since is still in the index: who claims from the floor on does not read it again.';
