-- The answer for a partition that is gone was that of a lock that somebody else has, who then may have gone as well: what
-- was left had to wait for the next time.
create or replace function accepted.delete_keys_of_jobs(partition text, after uuid, most integer) returns uuid
language plpgsql
set timezone = 'UTC'
-- By the BRIN indexes, also where the plan was made while the tables were small.
set enable_seqscan = off
as $$
declare
  first_id uuid := coalesce(after, accepted.uuid_floor(to_date(right(partition, 8), 'YYYYMMDD')::timestamptz));
  last_id uuid;
begin
  if not pg_try_advisory_xact_lock(hashtext('accepted.drop_expired_job_partitions')) then
    return null;
  end if;
  if to_regclass('accepted.' || partition) is not null then
    execute format(
      'select id from (select id from accepted.%I where $1 is null or id > $1 order by id limit $2) as next order by id desc limit 1',
      partition)
      into last_id using after, most;
  end if;
  if last_id is null then
    return 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  end if;
  delete from accepted.idempotency_key where job_id >= first_id and job_id <= last_id;
  delete from accepted.processed_key where job_id >= first_id and job_id <= last_id;
  delete from accepted.attempt where job_id >= first_id and job_id <= last_id;
  return last_id;
end
$$;

comment on function accepted.delete_keys_of_jobs is 'Deletes the keys and attempts of the next jobs of a partition that has expired, by id, at most so many. Returns the last id, to go on after, the greatest uuid when there are no more, or the partition has been dropped, or null when somebody else is at it. The worker calls it before it drops the partition.';
