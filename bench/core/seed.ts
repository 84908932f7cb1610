import pg from 'pg'
import { post } from '../load/post.ts'

/** Jobs to insert. */
export interface Seed {
  /** The id of an accepted job. The rows of this job are copied. */
  template: string
  count: number
  /** The ids of the jobs contain times. These times are spread evenly between `from` and `to`. */
  from: Date
  to: Date
  /** Whether the jobs have succeeded. Succeeded jobs have no row in the queue. */
  ended?: boolean
}

/** A table in which a job has a row. */
interface CopiedTable {
  table: string
  /** The column that holds the job's id. */
  key: string
  /** SQL for the columns that differ from the template's row. `new.id` and `new.at` are id and time of the new job. */
  changed: Readonly<Record<string, string>>
}

const queue: CopiedTable = {
  table: 'accepted_queue.job',
  key: 'id',
  changed: {
    data: `jsonb_build_object('job', new.id, 'payload', jsonb_build_object('noteId', new.id))`,
    start_after: 'new.at',
    created_on: 'new.at',
  },
}

const tablesOf = (ended: boolean): readonly CopiedTable[] => [
  { table: 'note', key: 'id', changed: {} },
  {
    table: 'accepted.idempotency_key',
    key: 'job_id',
    changed: { key: 'new.id::text', fingerprint: 'sha256(uuid_send(new.id))', created_at: 'new.at' },
  },
  {
    table: 'accepted.job',
    key: 'id',
    changed: {
      idempotency_key: 'new.id::text',
      created_at: 'new.at',
      updated_at: 'new.at',
      expires_at: `new.at + (template.expires_at - template.created_at)`,
      ...(ended && {
        status: `'succeeded'`,
        percent: '100',
        attempt: '1',
        sequence: '2',
        started_at: 'new.at',
        ended_at: 'new.at',
      }),
    },
  },
  ...(ended ? [] : [queue]),
]

/** Inserts jobs as if the API had accepted requests with idempotency keys. Runs one statement per table. */
export async function seedJobs(url: string, { template, count, from, to, ended = false }: Seed): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query('begin')
    // Skips triggers and foreign keys: the rows are consistent by construction, and checking each row is slow.
    await client.query('set local session_replication_role = replica')
    await client.query('create temporary table new (id uuid, at timestamptz) on commit drop')
    await client.query(
      `insert into new (id, at)
      select uuidv7(at - clock_timestamp()), at
      from generate_series(0, $1::bigint - 1) n,
        lateral (select $2::timestamptz + ($3::timestamptz - $2::timestamptz) * (n::float8 / $1) as at) times`,
      [count, from, to],
    )
    for (const table of tablesOf(ended)) await copyRows(client, template, table)
    if (ended)
      await client.query(
        `insert into accepted.processed_key (operation, principal, key, job_id, processed_at)
        select operation, principal, new.id::text, new.id, new.at
        from new, accepted.job template where template.id = $1 order by new.id`,
        [template],
      )
    await client.query('commit')
  } finally {
    await client.end()
  }
}

async function copyRows(client: pg.Client, template: string, { table, key, changed }: CopiedTable): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select attname as name from pg_attribute
    where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum`,
    [table],
  )
  const values: Readonly<Record<string, string>> = { ...changed, [key]: 'new.id' }
  const columns = rows.map(({ name }) => client.escapeIdentifier(name))
  const selected = rows.map(({ name }) => values[name] ?? `template.${client.escapeIdentifier(name)}`)
  await client.query(
    `insert into ${table} (${columns}) select ${selected} from new, ${table} template
    where template.${key} = $1 order by new.id`,
    [template],
  )
}

/** Removes dead rows, updates the planner's statistics and writes dirty pages to disk. */
export async function vacuumAndCheckpoint(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query('vacuum analyze')
    await client.query('checkpoint')
  } finally {
    await client.end()
  }
}

/** Returns the last ten minutes, or less just after midnight (UTC). All ids then belong to today's partition. */
export function recently(): { from: Date; to: Date } {
  const to = new Date()
  const midnight = new Date(to).setUTCHours(0, 0, 0, 0)
  return { from: new Date(Math.max(midnight, to.getTime() - 600_000)), to }
}

/** Older than the default retention of 7 days. */
const expiredDaysAgo = 9

/** One job in a hundred has a failed attempt. */
const jobsPerFailedAttempt = 100

/** Adds the partition of a past day, whose jobs have all succeeded and expired. Adds their keys and attempts too. */
export async function addExpiredDay(
  url: string,
  { template, count }: Pick<Seed, 'template' | 'count'>,
): Promise<{ partition: string }> {
  const from = new Date(new Date().setUTCHours(0, 0, 0, 0) - expiredDaysAgo * 86_400_000)
  const to = new Date(from.getTime() + 86_400_000)
  const partition = `job_${from.toISOString().slice(0, 10).replaceAll('-', '')}`
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ lower: string; upper: string; owner: string }>(
      `select accepted.uuid_floor($1) as lower, accepted.uuid_floor($2) as upper, relowner::regrole::text as owner
      from pg_class where oid = 'accepted.job'::regclass`,
      [from, to],
    )
    const { lower, upper, owner } = rows[0] as { lower: string; upper: string; owner: string }
    // Does the same as accepted.create_job_partitions, which creates no partitions for past days.
    await client.query(`create table accepted.${partition} (like accepted.job including all) with (fillfactor = 45)`)
    // Only the owner can drop it.
    await client.query(`alter table accepted.${partition} owner to ${owner}`)
    await client.query(
      `alter table accepted.job attach partition accepted.${partition} for values from ('${lower}') to ('${upper}')`,
    )
    await seedJobs(url, { template, count, from, to, ended: true })
    await client.query(
      `insert into accepted.attempt (job_id, attempt, error)
      select id, 1, '{"code":"handler-failed","message":"Out of milk"}' from accepted.${partition}
      where hashtext(id::text) % ${jobsPerFailedAttempt} = 0`,
    )
  } finally {
    await client.end()
  }
  return { partition }
}

/** Sends a request and returns the id of its job. */
export const acceptOne = async (origin: string): Promise<string> => JSON.parse(await post(`${origin}/notes`)).id
