-- Keys were found by the ids of their jobs, in BRIN indexes. Once rows of new days have taken the place of old ones, every
-- range of pages spans all days, and each look reads the whole table. Now it is read page by page, once for each day.
drop function accepted.drop_expired_job_partitions();
drop function accepted.delete_keys_of_jobs(text, uuid, integer);
drop function accepted.expired_job_partition();
drop index accepted.idempotency_key_job_id_idx;
drop index accepted.processed_key_job_id_idx;

create function accepted.has_expired(day date) returns boolean
language plpgsql
stable
set timezone = 'UTC'
as $$
declare
  partition text := 'job_' || to_char(day, 'YYYYMMDD');
  is_alive boolean;
begin
  -- A pending row, a deferred one for example, keeps its day alive.
  execute format(
    'select exists (select from accepted.%I where id >= $1 and id < $2 and (ended_at is null or expires_at > now()))',
    case when to_regclass('accepted.' || partition) is null then 'job_default' else partition end)
    into is_alive using accepted.uuid_floor(day::timestamptz), accepted.uuid_floor((day + 1)::timestamptz);
  return not is_alive;
end
$$;

comment on function accepted.has_expired is 'Whether every job that was accepted on a day (UTC) has ended and expired.';

create function accepted.expired_day() returns date
language plpgsql
stable
set timezone = 'UTC'
as $$
declare
  day date;
begin
  for day in
    select to_date(right(c.relname, 8), 'YYYYMMDD') from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'accepted.job'::regclass and c.relname ~ '^job_[0-9]{8}$'
    union
    select accepted.uuid_time(id)::date from accepted.job_default
    order by 1
  loop
    exit when day >= current_date;
    if accepted.has_expired(day) then
      return day;
    end if;
  end loop;
  return null;
end
$$;

comment on function accepted.expired_day is 'The oldest day (UTC) of which there are jobs, each of which has ended and expired; null when there is none.';

-- Deleted all at once, the keys of a day take a processor and the disk for as long as it lasts, and who accepts meanwhile
-- waits.
create function accepted.delete_keys_of_day(day date, page bigint, pages integer) returns boolean
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
  first_row tid := format('(%s,0)', page);
  next_row tid := format('(%s,0)', page + pages);
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  delete from accepted.idempotency_key
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.processed_key
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  delete from accepted.attempt
    where ctid >= first_row and ctid < next_row and job_id >= first_id and job_id < next_id;
  return (page + pages) * current_setting('block_size')::bigint < greatest(
    pg_relation_size('accepted.idempotency_key'),
    pg_relation_size('accepted.processed_key'),
    pg_relation_size('accepted.attempt')
  );
end
$$;

comment on function accepted.delete_keys_of_day is 'Deletes the keys and attempts of the jobs of a day (UTC) that has expired, from so many pages of their tables, from a page on. Returns whether there are pages left, or null when somebody else is at it. The worker calls it.';

create function accepted.delete_jobs_of_day(day date, most integer) returns boolean
language plpgsql
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  partition text := 'job_' || to_char(day, 'YYYYMMDD');
  deleted bigint;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.expired_day')) then
    return null;
  end if;
  if to_regclass('accepted.' || partition) is not null then
    if accepted.has_expired(day) then
      execute format('drop table accepted.%I', partition);
    end if;
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

comment on function accepted.delete_jobs_of_day is 'Drops the partition of a day (UTC) that has expired; of a day that never had one, deletes the jobs, at most so many. Returns whether there may be more, or null when somebody else is at it. The worker calls it when their keys are gone.';
