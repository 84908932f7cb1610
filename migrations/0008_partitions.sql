-- Room for the end of every row in the page of its beginning, also when all rows of a page end in one transaction: with a
-- fillfactor of 70 half of the updates went elsewhere, and into every index.
create or replace function accepted.create_job_partitions(days_ahead integer default 3) returns setof text
language plpgsql
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  day date;
  lower_bound uuid;
  upper_bound uuid;
  partition text;
begin
  for day in select current_date + n from generate_series(0, days_ahead) n loop
    partition := 'job_' || to_char(day, 'YYYYMMDD');
    continue when to_regclass('accepted.' || partition) is not null;
    -- One maker at a time; whoever comes second finds the partition there.
    perform pg_advisory_xact_lock(hashtext('accepted.create_job_partitions'));
    continue when to_regclass('accepted.' || partition) is not null;
    lower_bound := accepted.uuid_floor(day::timestamptz);
    upper_bound := accepted.uuid_floor((day + 1)::timestamptz);
    -- Rows that came while no worker ran are in the default partition and must move, or attaching fails.
    lock table accepted.job_default in access exclusive mode;
    execute format('create table accepted.%I (like accepted.job including all) with (fillfactor = 50)', partition);
    execute format(
      'with moved as (delete from accepted.job_default where id >= %L and id < %L returning *) insert into accepted.%I select * from moved',
      lower_bound, upper_bound, partition);
    execute format('alter table accepted.job attach partition accepted.%I for values from (%L) to (%L)',
      partition, lower_bound, upper_bound);
    return next partition;
  end loop;
end
$$;

do $$
declare
  partition regclass;
begin
  for partition in select inhrelid from pg_inherits where inhparent = 'accepted.job'::regclass loop
    execute format('alter table %s set (fillfactor = 50)', partition);
  end loop;
end
$$;

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
