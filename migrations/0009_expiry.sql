create function accepted.expired_job_partition() returns text
language plpgsql
stable
set timezone = 'UTC'
as $$
declare
  partition text;
  alive boolean;
begin
  for partition in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'accepted.job'::regclass and c.relname ~ '^job_[0-9]{8}$'
      and c.relname < 'job_' || to_char(current_date, 'YYYYMMDD')
    order by c.relname
  loop
    -- A pending row, a deferred one for example, keeps its partition alive.
    execute format('select exists (select from accepted.%I where ended_at is null or expires_at > now())', partition) into alive;
    if not alive then
      return partition;
    end if;
  end loop;
  return null;
end
$$;

comment on function accepted.expired_job_partition is 'The oldest partition of accepted.job whose every row has ended and expired; null when there is none.';

-- Deleted all at once, the keys of a day take a processor and the disk for as long as it lasts, and who accepts meanwhile
-- waits.
create function accepted.delete_keys_of_jobs(partition text, after uuid, most integer) returns uuid
language plpgsql
set timezone = 'UTC'
-- By the BRIN indexes, also where the plan was made while the tables were small.
set enable_seqscan = off
as $$
declare
  first_id uuid := coalesce(after, accepted.uuid_floor(to_date(right(partition, 8), 'YYYYMMDD')::timestamptz));
  last_id uuid;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.drop_expired_job_partitions'))
    or to_regclass('accepted.' || partition) is null
  then
    return null;
  end if;
  execute format(
    'select id from (select id from accepted.%I where id > $1 order by id limit $2) as next order by id desc limit 1', partition)
    into last_id using first_id, most;
  if last_id is null then
    return 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  end if;
  delete from accepted.idempotency_key where job_id >= first_id and job_id <= last_id;
  delete from accepted.processed_key where job_id >= first_id and job_id <= last_id;
  delete from accepted.attempt where job_id >= first_id and job_id <= last_id;
  return last_id;
end
$$;

comment on function accepted.delete_keys_of_jobs is 'Deletes the keys and attempts of the next jobs of a partition that has expired, by id, at most so many. Returns the last id, to go on after, the greatest uuid when there are no more, or null when somebody else is at it, or has dropped it. The worker calls it before it drops the partition.';

create or replace function accepted.drop_expired_job_partitions() returns setof text
language plpgsql
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  partition text;
  day date;
  first_id uuid;
  last_id uuid;
  gone uuid[];
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.drop_expired_job_partitions')) then
    return;
  end if;
  partition := accepted.expired_job_partition();
  if partition is not null then
    day := to_date(right(partition, 8), 'YYYYMMDD');
    first_id := accepted.uuid_floor(day::timestamptz);
    last_id := accepted.uuid_floor((day + 1)::timestamptz);
    delete from accepted.idempotency_key where job_id >= first_id and job_id < last_id;
    delete from accepted.processed_key where job_id >= first_id and job_id < last_id;
    delete from accepted.attempt where job_id >= first_id and job_id < last_id;
    execute format('drop table accepted.%I', partition);
    return next partition;
    return;
  end if;
  -- Of a day that never had a partition.
  with expired as (delete from accepted.job_default where ended_at is not null and expires_at <= now() returning id)
  select array_agg(id) into gone from expired;
  if gone is not null then
    delete from accepted.idempotency_key where job_id = any(gone);
    delete from accepted.processed_key where job_id = any(gone);
    delete from accepted.attempt where job_id = any(gone);
  end if;
end
$$;
