import pg from 'pg'
import { post } from '../load/post.ts'

/** Which jobs are written. */
export interface Seed {
  /** A job that a request has been accepted as: the rows of the new ones are like its own. */
  template: string
  count: number
  /** Their ids are of times between these, in the order of time. */
  from: Date
  to: Date
  /** They have ended, and have left the queue. */
  ended?: boolean
}

/** What a table holds instead of what it does for the template; `id` and `at` are those of a new job. */
interface Rows {
  table: string
  /** Whose value is the job's id. */
  key: string
  instead: Readonly<Record<string, string>>
}

const queued: readonly Rows[] = [
  {
    table: 'pgboss.job',
    key: 'id',
    instead: {
      data: `jsonb_build_object('job', new.id, 'payload', jsonb_build_object('noteId', new.id))`,
      start_after: 'new.at',
      created_on: 'new.at',
    },
  },
]

const rowsOf = (ended: boolean): readonly Rows[] => [
  { table: 'note', key: 'id', instead: {} },
  {
    table: 'accepted.idempotency_key',
    key: 'job_id',
    instead: { key: 'new.id::text', fingerprint: 'sha256(uuid_send(new.id))', created_at: 'new.at' },
  },
  {
    table: 'accepted.job',
    key: 'id',
    instead: {
      idempotency_key: 'new.id::text',
      created_at: 'new.at',
      updated_at: 'new.at',
      expires_at: `new.at + (template.expires_at - template.created_at)`,
      ...(ended && {
        state: `'succeeded'`,
        percent: '100',
        attempt: '1',
        sequence: '2',
        started_at: 'new.at',
        ended_at: 'new.at',
      }),
    },
  },
  ...(ended ? [] : queued),
]

/** Writes jobs as if as many requests had been accepted, each with a key, by one statement a table. */
export async function seedJobs(url: string, { template, count, from, to, ended = false }: Seed): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query('begin')
    // What refers to something refers to what is there; to look at each is only slow.
    await client.query('set local session_replication_role = replica')
    await client.query('create temporary table new (id uuid, at timestamptz) on commit drop')
    await client.query(
      `insert into new (id, at)
      select uuidv7(at - clock_timestamp()), at
      from generate_series(0, $1::bigint - 1) n,
        lateral (select $2::timestamptz + ($3::timestamptz - $2::timestamptz) * (n::float8 / $1) as at) times`,
      [count, from, to],
    )
    for (const rows of rowsOf(ended)) await insert(client, template, rows)
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

async function insert(client: pg.Client, template: string, { table, key, instead }: Rows): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select attname as name from pg_attribute
    where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum`,
    [table],
  )
  const values: Readonly<Record<string, string>> = { ...instead, [key]: 'new.id' }
  const columns = rows.map(({ name }) => client.escapeIdentifier(name))
  const selected = rows.map(({ name }) => values[name] ?? `template.${client.escapeIdentifier(name)}`)
  await client.query(
    `insert into ${table} (${columns}) select ${selected} from new, ${table} template
    where template.${key} = $1 order by new.id`,
    [template],
  )
}

/** Makes dead rows go, makes the planner know the tables as they are, and has what was written on disk. */
export async function settleTables(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query('vacuum analyze')
    await client.query('checkpoint')
  } finally {
    await client.end()
  }
}

/** Not long ago, and in the partition of today. */
export function today(): { from: Date; to: Date } {
  const to = new Date()
  const midnight = new Date(to).setUTCHours(0, 0, 0, 0)
  return { from: new Date(Math.max(midnight, to.getTime() - 600_000)), to }
}

/** So many days ago that what was accepted then has expired. */
const daysAgo = 9

/** Every so many jobs one had an attempt that failed. */
const failedEvery = 100

/** Adds the partition of a day whose every job has ended and expired, with their keys and attempts. */
export async function addExpiredDay(
  url: string,
  { template, count }: Pick<Seed, 'template' | 'count'>,
): Promise<{ partition: string }> {
  const from = new Date(new Date().setUTCHours(0, 0, 0, 0) - daysAgo * 86_400_000)
  const to = new Date(from.getTime() + 86_400_000)
  const partition = `job_${from.toISOString().slice(0, 10).replaceAll('-', '')}`
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ lower: string; upper: string }>(
      'select accepted.uuid_floor($1) as lower, accepted.uuid_floor($2) as upper',
      [from, to],
    )
    const { lower, upper } = rows[0] as { lower: string; upper: string }
    // As accepted.create_job_partitions does it, which makes none of the past.
    await client.query(`create table accepted.${partition} (like accepted.job including all) with (fillfactor = 50)`)
    await client.query(
      `alter table accepted.job attach partition accepted.${partition} for values from ('${lower}') to ('${upper}')`,
    )
    await seedJobs(url, { template, count, from, to, ended: true })
    await client.query(
      `insert into accepted.attempt (job_id, attempt, error)
      select id, 1, '{"code":"handler-failed","message":"Out of milk"}' from accepted.${partition}
      where hashtext(id::text) % ${failedEvery} = 0`,
    )
  } finally {
    await client.end()
  }
  return { partition }
}

/** Accepts a request and answers the id of its job. */
export const acceptOne = async (origin: string): Promise<string> => JSON.parse(await post(`${origin}/notes`)).id
