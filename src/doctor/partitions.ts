import { sql } from 'kysely'
import { queueSchema } from '../queue/schema.ts'
import type { Check, CheckContext, Finding } from './check.ts'
import { formatBytes, formatSeconds, literal } from './format.ts'

/** The partitions of the status table: those of the next days, the default partition, and days that are not dropped. */
export const partitions: readonly Check[] = [
  { name: 'partitions', run: missingDays },
  { name: 'default partition', run: defaultPartition },
  { name: 'expired days', run: keptDays },
]

const startWorker = 'Start a worker: it creates the partitions of the coming days.'

async function missingDays({ query, note }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<{ day: string; first_id: string; exists: boolean }>`
    select day::text, exists (
      select from accepted.job_partitions() part
      where part.first_id < accepted.uuid_floor((day + 1)::timestamp at time zone 'UTC')
        and part.end_id > accepted.uuid_floor(day::timestamp at time zone 'UTC')
    ) as exists
    from generate_series(0, 2) ahead
    cross join lateral (select (now() at time zone 'UTC')::date + ahead as day) d`)
  const days = rows.filter((row) => !row.exists).map(({ day }) => day)
  if (days.length === 0) note(`all days up to ${rows.at(-1)?.day} have a partition`)
  if (days.length === 0) return []
  return [
    {
      code: 'partition-missing',
      severity: 'warning',
      message: `accepted.job has no partition for ${days.join(', ')} (UTC): the jobs of these days go to the default partition.`,
      action: `${startWorker} Or: select accepted.create_job_partitions()`,
      details: { days },
    },
  ]
}

async function defaultPartition({ query }: CheckContext): Promise<Finding[]> {
  const [row] = await query(sql<{ bytes: number; rows: number; readable: boolean }>`
    select pg_relation_size(c.oid)::float8 as bytes, coalesce(stats.n_live_tup, 0)::float8 as rows,
      has_table_privilege(c.oid, 'select') as readable
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_stat_all_tables stats on stats.relid = c.oid
    where n.nspname = 'accepted' and c.relname = 'job_default'`)
  if (!row || row.bytes === 0) return []
  // Vacuum leaves pages behind, so the size alone does not show whether there are rows.
  const isUsed = row.readable ? (await query(sql`select from accepted.job_default limit 1`)).length > 0 : row.rows > 0
  if (!isUsed) return []
  return [
    {
      code: 'default-partition-used',
      severity: 'warning',
      message: `The default partition of accepted.job holds jobs (${formatBytes(row.bytes)}), because their days had no partition.`,
      action:
        'Start a worker: if there are many, it makes them a partition of their own. The others are deleted when they expire.',
      details: { bytes: row.bytes },
    },
  ]
}

interface KeptDay {
  partition: string
  seconds: number
  job_id: string | null
  operation: string | null
  due_at: Date | null
}

/**
 * A pending job keeps its whole day. It has a row in the queue, whose primary key finds it. A day is no finding while the
 * record of an ended job has not expired.
 */
async function keptDays({ query, limits }: CheckContext): Promise<Finding[]> {
  const rows = await query(sql<KeptDay>`
    select part.relation as partition, extract(epoch from now() - part.drops_after)::float8 as seconds,
      pending.id::text as job_id, pending.name::text as operation, pending.start_after as due_at
    from (
      select storage.relation, storage.drops_after, bounds.first_id, bounds.end_id
      from accepted.storage
      join accepted.job_partitions() bounds on bounds.partition::text = storage.relation
      where storage.drops_after <= now() - make_interval(secs => ${limits.dropDelaySeconds})
      order by storage.drops_after limit ${limits.findings}
    ) part
    left join lateral (
      select queued.id, queued.name, queued.start_after
      from ${sql.id(queueSchema, 'queue')} queue
      cross join lateral (
        select job.id, job.name, job.start_after from ${sql.id(queueSchema, 'job')} job
        where job.name = queue.name and job.id >= part.first_id and job.id < part.end_id and job.state <= 'active'
        order by job.id limit 1
      ) queued
      order by queued.id limit 1
    ) pending on true
    where pending.id is not null or not exists (
      select from accepted.job where job.id >= part.first_id and job.id < part.end_id and job.expires_at > now()
    )
    order by part.drops_after`)
  return rows.map(({ partition, seconds, job_id, operation, due_at }) => ({
    code: 'partition-kept',
    severity: 'warning',
    message:
      `${partition} could have been dropped ${formatSeconds(seconds)} ago` +
      (job_id
        ? `, but the pending job ${job_id} of ${operation}, due at ${due_at?.toISOString()}, keeps it.`
        : '. No pending job was found that keeps it.'),
    action: job_id
      ? `Let the job run, or: select accepted.cancel(${literal(job_id)})`
      : 'Start a worker, which drops it. If one runs, read its log: another session may hold a lock on accepted.job.',
    details: { partition, jobId: job_id, operation, dueAt: due_at },
  }))
}
