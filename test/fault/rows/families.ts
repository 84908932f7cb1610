import { randomUUID } from 'node:crypto'
import pg from 'pg'
import type { Row, RowContext } from '../row.ts'
import { stormRow } from './abandon.ts'

/** The number of members of each batch. */
const batchSize = 20
/** The number of failed members that are retried after each storm of cancel requests. */
const retryCount = 3

/** What must hold for parents, children and dependencies when every job has ended. Each statement returns violations. */
const violations: Record<string, string> = {
  'rows are left that only pending jobs have': `
    select job_id from accepted.parent union all select job_id from accepted.ending
    union all select job_id from accepted.dependency`,
  'jobs have ended after their parent': `
    select child.id from accepted.job child join accepted.job parent on parent.id = child.parent
    where child.ended_at > parent.ended_at`,
  'jobs count their children wrongly': `
    select id from accepted.job where children is not null and children <> accepted.count_children(id)`,
  'jobs have succeeded although their children have not': `
    select id from accepted.job where operation = 'intent.family' and status = 'succeeded'
      and children ->> 'succeeded' <> children ->> 'total'`,
  'families do not have their three children': `
    select id from accepted.job where operation = 'intent.family' and children is not null
      and 3 <> (select count(*) from accepted.job child where child.parent = job.id and child.retry_of is null)`,
  'batches have not enqueued one job at their end': `
    select id from accepted.job where operation = 'batch'
      and 1 <> (select count(*) from accepted.job next where next.batch ->> 'id' = job.id::text and retry_of is null)`,
  'rows in the queue are blocked': 'select id from accepted_queue.job where blocked',
}

async function findViolations({ query }: RowContext): Promise<string[]> {
  const findings: string[] = []
  for (const [what, statement] of Object.entries(violations)) {
    const rows = await query(statement)
    if (rows.length > 0) findings.push(`${rows.length} ${what}, for example ${Object.values(rows[0])[0]}`)
  }
  return findings
}

/** Retries failed members, whose retries count for their parent if it has not ended. */
async function retryMembers({ query }: RowContext): Promise<void> {
  const rows = await query(
    `select id from accepted.job where operation = 'intent.member' and status = 'failed'
      and not exists (select from accepted.job retry where retry.retry_of = job.id)
    order by random() limit $1`,
    [retryCount],
  )
  for (const { id } of rows) await query('select accepted.retry($1)', [id])
}

/** Enqueues a batch in SQL, with the domain rows of its members. The journal has an intent for each member. */
async function enqueueBatch({ journal, databaseUrl }: RowContext): Promise<void> {
  const batch = randomUUID()
  const tokens = Array.from({ length: batchSize }, () => randomUUID())
  const items = tokens.map((token) => ({ operation: 'intent.member', payload: { token } }))
  const onEnd = { operation: 'intent.ending', payload: { token: `${batch}/ending` } }
  const client = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  await client.connect()
  const all = [batch, ...tokens]
  await Promise.all(all.map((token) => journal.append({ token, event: 'invoked' })))
  try {
    await client.query('begin')
    const enqueued = await client.query('select accepted.enqueue_batch($1, $2, $3) as id', [
      JSON.stringify(items),
      JSON.stringify(onEnd),
      Math.random() < 0.5,
    ])
    const { rows } = await client.query(
      `insert into domain (job_id, token)
      select job.id, queued.data -> 'payload' ->> 'token'
      from accepted.job join accepted_queue.job queued on queued.name = job.operation and queued.id = job.id
      where job.parent = $1 returning job_id, token`,
      [enqueued.rows[0].id],
    )
    await client.query('commit')
    for (const { job_id, token } of rows) {
      await journal.append({ token, event: 'acknowledged', job: job_id, reason: 'committed' })
    }
    await journal.append({ token: batch, event: 'unknown', reason: 'has no job of its own' })
  } catch (error) {
    await Promise.all(all.map((token) => journal.append({ token, event: 'unknown', reason: (error as Error).message })))
  } finally {
    await client.end().catch(() => {})
  }
}

export const families: Row = stormRow({
  name: 'families',
  summary:
    'Jobs enqueue children and jobs that wait for others, some of which fail, are canceled and retried, while processes are killed, Postgres crashes and abandon fails. Each job ends once, for its own reason or that of another.',
  paths: ['/families'],
  maxRounds: 8,
  also: retryMembers,
  checkAfterDrain: findViolations,
})

export const batches: Row = stormRow({
  name: 'batches',
  summary:
    'Batches are enqueued in SQL, and their jobs fail, are canceled and retried, while processes are killed, Postgres crashes and abandon fails. Each batch ends with its last child, and enqueues one job.',
  paths: ['/settled', '/performed'],
  maxRounds: 8,
  async also(context) {
    await enqueueBatch(context)
    await retryMembers(context)
  },
  checkAfterDrain: findViolations,
})

/** For a control: families without faults, whose children end in transactions that do not wait for each other. */
export const familiesWithoutLock: Row = {
  name: 'families-without-lock',
  summary: families.summary,
  mayEndUnsuccessfully: true,
  async run(context) {
    await context.query(
      'create or replace function accepted.lock_children(parent uuid) returns void language sql return null',
    )
    const load = context.startLoad({ paths: ['/families'], connections: 12 })
    const goal = context.isShort ? 300 : 1_000
    while (load.acknowledgedCount() < goal) await new Promise((resolve) => setTimeout(resolve, 20))
    await load.stop()
    return { faultCount: 1 }
  },
}
