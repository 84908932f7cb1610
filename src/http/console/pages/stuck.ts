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

interface Stuck {
  rows: StuckRow[]
  total: number
}

/** Reads what needs a person, the oldest first. */
export async function readStuck(trx: Transaction<Tables>, maxRows: number): Promise<Stuck> {
  const { rows } = await sql<StuckRow & { total: string }>`
    select job_id, operation, why, what_to_do, since, count(*) over () as total
    from accepted.stuck order by since limit ${maxRows}`.execute(trx)
  return { rows, total: Number(rows[0]?.total ?? 0) }
}

export const stuckTable = ({ base }: ConsoleContext, rows: readonly StuckRow[]): Html =>
  table(
    ['Job', 'Why', 'What to do', 'Since'],
    rows.map(({ job_id, operation, why, what_to_do, since }) => [
      html`<a href="${base}/jobs/${job_id}">${operation}</a>`,
      ...[why, what_to_do, ago(since)],
    ]),
    { caption: 'Jobs and operations that need a person', empty: 'Nothing is stuck.' },
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
        body: html`<div id="stuck" data-live>${stuckTable(context, rows)}${
          total > rows.length && html`<p>These are the oldest of ${count(total)}.</p>`
        }</div>`,
      })
    })
  },
}
