-- While somebody has accepted.job locked, a partition that is to go, or to come, waits for it, and everybody else waits
-- behind that: for less than any of them gives up after.
alter function accepted.create_job_partitions(integer) set lock_timeout = '100ms';

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

-- A worker that stops leaves the rest to another one, which goes on where it was: to read all keys there are may take hours.
create table accepted.expiry (
  day date not null,
  next_page bigint not null,
  constraint expiry_pkey primary key (day)
);

comment on table accepted.expiry is 'One row per day whose jobs have all expired, and are being deleted.';
comment on column accepted.expiry.day is 'The day (UTC).';
comment on column accepted.expiry.next_page is 'The first page of the tables of keys and attempts that has not been looked through yet.';

drop function accepted.expired_day();

create function accepted.begin_expiry() returns date
language plpgsql
set timezone = 'UTC'
as $$
declare
  day date;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  select expiry.day into day from accepted.expiry order by expiry.day limit 1;
  if found then
    return day;
  end if;
  for day in
    select to_date(right(c.relname, 8), 'YYYYMMDD') from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'accepted.job'::regclass and c.relname ~ '^job_[0-9]{8}$'
    union
    select accepted.uuid_time(id)::date from accepted.job_default
    order by 1
  loop
    exit when day >= current_date;
    if accepted.has_expired(day) then
      insert into accepted.expiry values (day, 0);
      return day;
    end if;
  end loop;
  return null;
end
$$;

comment on function accepted.begin_expiry is 'The day (UTC) whose jobs are being deleted; when there is none, begins with the oldest of which every job has ended and expired. Null when there is no such day, or somebody else is at it. The worker calls it.';

drop function accepted.delete_keys_of_day(date, bigint, integer);

create function accepted.delete_keys_of_day(day date, pages integer) returns boolean
language plpgsql
set timezone = 'UTC'
-- By pages, also where an index on the jobs' ids seems better: it would find all of the day every time.
set enable_seqscan = off
set enable_indexscan = off
set enable_bitmapscan = off
as $$
declare
  first_id uuid := accepted.uuid_floor(day::timestamptz);
  next_id uuid := accepted.uuid_floor((day + 1)::timestamptz);
  next_page bigint;
  first_row tid;
  next_row tid;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  update accepted.expiry set next_page = expiry.next_page + pages where expiry.day = $1
    returning expiry.next_page into next_page;
  if not found then
    return null;
  end if;
  first_row := format('(%s,0)', next_page - pages);
  next_row := format('(%s,0)', next_page);
  delete from accepted.idempotency_key
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.processed_key
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.attempt
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  return next_page * current_setting('block_size')::bigint < greatest(
    pg_relation_size('accepted.idempotency_key'),
    pg_relation_size('accepted.processed_key'),
    pg_relation_size('accepted.attempt')
  );
end
$$;

comment on function accepted.delete_keys_of_day is 'Deletes the keys and attempts of the jobs of a day (UTC) that has expired, from the next so many pages of their tables. Returns whether there are pages left, or null when somebody else is at it, or has done it. The worker calls it.';

create or replace function accepted.delete_jobs_of_day(day date, most integer) returns boolean
language plpgsql
set lock_timeout = '100ms'
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
    delete from accepted.expiry where expiry.day = $1;
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
  if deleted < most then
    delete from accepted.expiry where expiry.day = $1;
  end if;
  return deleted = most;
end
$$;

comment on function accepted.delete_jobs_of_day is 'Drops the partition of a day (UTC) that has expired; of a day that never had one, deletes the jobs, at most so many. Returns whether there may be more, or null when somebody else is at it, or has brought a job back to life. The worker calls it when their keys are gone.';
