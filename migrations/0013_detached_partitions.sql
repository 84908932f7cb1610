-- A partition that was detached, to be kept, still has the name of its day: looked up by name alone, it was dropped.
create function accepted.partition_of_day(day date) returns regclass
language sql
stable
return (
  select c.oid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'accepted.job'::regclass and c.relname = 'job_' || to_char(day, 'YYYYMMDD')
);

comment on function accepted.partition_of_day is 'The partition of accepted.job for a day (UTC); null when its jobs are in the default partition, or the partition has been detached.';

create or replace function accepted.has_expired(day date) returns boolean
language plpgsql
stable
set timezone = 'UTC'
as $$
declare
  is_alive boolean;
begin
  -- A pending row, a deferred one for example, keeps its day alive.
  execute format(
    'select exists (select from %s where id >= $1 and id < $2 and (ended_at is null or expires_at > now()))',
    coalesce(accepted.partition_of_day(day), 'accepted.job_default'))
    into is_alive using accepted.uuid_floor(day::timestamptz), accepted.uuid_floor((day + 1)::timestamptz);
  return not is_alive;
end
$$;

create or replace function accepted.delete_jobs_of_day(day date, most integer) returns boolean
language plpgsql
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  partition regclass := accepted.partition_of_day(day);
  deleted bigint;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  if partition is not null then
    if not accepted.has_expired(day) then
      return null;
    end if;
    execute format('drop table %s', partition);
    return false;
  end if;
  delete from accepted.job_default where id in (
    select id from accepted.job_default
    where id >= accepted.uuid_floor(day::timestamptz) and id < accepted.uuid_floor((day + 1)::timestamptz)
      and ended_at is not null and expires_at <= now()
    order by id limit most
  );
  get diagnostics deleted = row_count;
  return deleted = most;
end
$$;

comment on function accepted.delete_jobs_of_day is 'Drops the partition of a day (UTC) that has expired; of a day that never had one, deletes the jobs, at most so many. Returns whether there may be more, or null when somebody else is at it, or has brought a job back to life. The worker calls it when their keys are gone.';
