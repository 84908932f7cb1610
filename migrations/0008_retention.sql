-- As before, but one day in a transaction: whoever drops a partition keeps all others from accepted.job until the end.
create or replace function accepted.drop_expired_job_partitions() returns setof text
language plpgsql
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  partition text;
  day date;
  alive boolean;
  first_id uuid;
  last_id uuid;
  gone uuid[];
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.drop_expired_job_partitions')) then
    return;
  end if;
  for partition in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'accepted.job'::regclass and c.relname ~ '^job_[0-9]{8}$' order by c.relname
  loop
    day := to_date(right(partition, 8), 'YYYYMMDD');
    exit when day >= current_date;
    -- A pending row, a deferred one for example, keeps its partition alive.
    execute format('select exists (select from accepted.%I where ended_at is null or expires_at > now())', partition) into alive;
    continue when alive;
    first_id := accepted.uuid_floor(day::timestamptz);
    last_id := accepted.uuid_floor((day + 1)::timestamptz);
    delete from accepted.idempotency_key where job_id >= first_id and job_id < last_id;
    delete from accepted.processed_key where job_id >= first_id and job_id < last_id;
    delete from accepted.attempt where job_id >= first_id and job_id < last_id;
    execute format('drop table accepted.%I', partition);
    return next partition;
    return;
  end loop;
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

comment on function accepted.drop_expired_job_partitions() is 'Drops the oldest partition of accepted.job whose every row has ended and expired, with the keys and attempts that belong to it; returns its name, or nothing when there is none any more. The worker calls it until then.';
