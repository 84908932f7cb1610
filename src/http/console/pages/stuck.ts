import { sql, type Transaction } from 'kysely'
import type { Tables } from '../../../db/tables.ts'
import type { StuckRow } from '../../../db/views.ts'
import { table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { ago, count } from '../format.ts'
import { type Html, html } from '../html.ts'
import type { ConsolePage } from '../page.ts'

const refreshSeconds = 10
const maxShown = 200

interface Stuck<Row> {
  rows: Row[]
  total: number
}

/** Jobs of one operation that are stuck for the same reason, with the words of the oldest one. */
type StuckGroup = StuckRow & { jobs: string }

/** Reads what needs a person, the oldest first. */
async function readStuck(trx: Transaction<Tables>, maxRows: number): Promise<Stuck<StuckRow>> {
  const { rows } = await sql<StuckRow & { total: string }>`
    select job_id, operation, why, what_to_do, since, count(*) over () as total
    from accepted.stuck order by since limit ${maxRows}`.execute(trx)
  return { rows, total: Number(rows[0]?.total ?? 0) }
}

/** Reads the same in groups, so that many jobs of one operation do not hide the others. */
export async function readStuckGroups(trx: Transaction<Tables>, maxGroups: number): Promise<Stuck<StuckGroup>> {
  const { rows } = await sql<StuckGroup & { total: string }>`
    select
      operation, (array_agg(job_id order by since))[1] as job_id, (array_agg(why order by since))[1] as why,
      (array_agg(what_to_do order by since))[1] as what_to_do, min(since) as since, count(*) as jobs,
      sum(count(*)) over () as total
    from accepted.stuck group by operation, code order by min(since) limit ${maxGroups}`.execute(trx)
  return { rows, total: Number(rows[0]?.total ?? 0) }
}

const caption = 'Jobs that need a person'
const linkTo = ({ base }: ConsoleContext, { job_id, operation }: StuckRow) =>
  html`<a href="${base}/jobs/${job_id}">${operation}</a>`

export const stuckGroupTable = (context: ConsoleContext, groups: readonly StuckGroup[]): Html =>
  table(
    ['Oldest job', { label: 'Jobs', isNumber: true }, 'Why', 'What to do', 'Since'],
    groups.map((row) => [linkTo(context, row), count(row.jobs), row.why, row.what_to_do, ago(row.since)]),
    { caption, empty: 'Nothing is stuck.' },
  )

/** Everything that needs a person. */
export const stuckPage: ConsolePage = {
  path: '/stuck',
  label: 'Stuck',
  addRoutes(app, context) {
    app.get('/stuck', async (_request, reply) => {
      const { rows, total } = await context.read((trx) => readStuck(trx, maxShown))
      return context.send(reply, {
        title: 'Stuck',
        refreshSeconds,
        body: html`<div id="stuck" class="card" data-live>${table(
          ['Job', 'Why', 'What to do', 'Since'],
          rows.map((row) => [linkTo(context, row), row.why, row.what_to_do, ago(row.since)]),
          { caption, empty: 'Nothing is stuck.' },
        )}</div>${total > rows.length && html`<p>These are the oldest of ${count(total)}.</p>`}`,
      })
    })
  },
}
