import { sql } from 'kysely'
import { validate as isUuid } from 'uuid'
import { field, pager, table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { time } from '../format.ts'
import { type Html, html } from '../html.ts'
import type { ConsolePage } from '../page.ts'

const pageSize = 100
/** A page that filters reads at most this many rows. It may be short and still have a next page. */
const maxScannedRows = 10_000
const maxTextLength = 300

interface AuditRow {
  id: string
  at: Date
  role: string
  key_id: string | null
  principal: string | null
  action: string
  object: string | null
}

/** What to show: an empty member does not restrict the rows. */
interface Filter {
  principal: string
  action: string
  object: string
  since: string
  until: string
}

const fields = ['principal', 'action', 'object', 'since', 'until'] as const satisfies (keyof Filter)[]

/** The actions of all principals and roles, the newest first. */
export const auditPage: ConsolePage = {
  path: '/audit',
  label: 'Audit',
  addRoutes(app, context) {
    app.get<{ Querystring: Record<string, unknown> }>('/audit', async ({ query }, reply) => {
      const filter = Object.fromEntries(fields.map((name) => [name, textFrom(query[name])])) as unknown as Filter
      const before = /^\d{1,18}$/.test(textFrom(query.before)) ? textFrom(query.before) : undefined
      const { rows, next } = await findActions(context, filter, before)
      const linkTo = (cursor?: string) => {
        const entries = [...Object.entries(filter), ['before', cursor ?? '']].filter(([, value]) => value !== '')
        const search = new URLSearchParams(entries as [string, string][]).toString()
        return `${context.base}/audit${search && `?${search}`}`
      }
      const isPartial = next !== undefined && rows.length < pageSize
      return context.send(reply, {
        title: 'Audit',
        body: html`${filterForm(context, filter)}
<div class="card">${actionTable(context, rows, next !== undefined)}</div>
${pager({ first: before && linkTo(), next: next && linkTo(next), label: isPartial ? 'Search older rows' : 'Older' })}`,
      })
    })
  },
}

const textFrom = (value: unknown): string => (typeof value === 'string' ? value.trim().slice(0, maxTextLength) : '')

/** Reads the value of an input for a time, as UTC. What is no time does not restrict the rows. */
function timeFrom(value: string): string | null {
  const at = new Date(`${value}Z`)
  return Number.isNaN(at.getTime()) ? null : at.toISOString()
}

/**
 * Reads a page of the audit (keyset pagination).
 *
 * @param before the id of the last row of the page before
 */
async function findActions(context: ConsoleContext, filter: Filter, before: string | undefined) {
  const { principal, action, object } = filter
  const [since, until] = [timeFrom(filter.since), timeFrom(filter.until)]
  // What these match is not in an index.
  const scanLimit = principal || action ? maxScannedRows : pageSize + 1
  const rows = await context.read(async (trx) => {
    const last = await sql<{ at: string }>`select at::text from accepted.audit where id = ${before ?? null}`.execute(
      trx,
    )
    const cursor = last.rows[0] ? sql`(at, id) < (${last.rows[0].at}::timestamptz, ${before}::bigint)` : sql`true`
    const statement = sql<AuditRow & { scanned_rows: number; last_id: string }>`
      with scanned as materialized (
        select * from accepted.audit
        where ${cursor} and ${object ? sql`object = ${object}` : sql`true`}
          and ${since === null ? sql`true` : sql`at >= ${since}`} and ${until === null ? sql`true` : sql`at < ${until}`}
        order by at desc, id desc limit ${scanLimit}
      ), found as (
        select * from scanned
        where ${principal ? sql`(principal = ${principal} or role = ${principal})` : sql`true`}
          and ${action ? sql`starts_with(action, ${action})` : sql`true`}
        order by at desc, id desc limit ${pageSize + 1}
      )
      select found.*, extent.* from (
        select count(*)::int as scanned_rows, (array_agg(id order by at, id))[1] as last_id from scanned
      ) extent left join found on true order by at desc, found.id desc`
    return (await statement.execute(trx)).rows
  })
  const found = rows.filter(({ id }) => id !== null)
  const shown = found.slice(0, pageSize)
  if (found.length > pageSize) return { rows: shown, next: shown.at(-1)?.id }
  return { rows: shown, next: rows[0]?.scanned_rows === maxScannedRows ? rows[0].last_id : undefined }
}

const filterForm = ({ base }: ConsoleContext, filter: Filter): Html =>
  html`<form method="get" action="${base}/audit" role="search" class="filter">${[
    field({ name: 'principal', label: 'Principal or role', value: filter.principal, type: 'search' }),
    field({
      name: 'action',
      label: 'Action',
      value: filter.action,
      type: 'search',
      placeholder: 'cancel, schedule.',
    }),
    field({
      name: 'object',
      label: 'Object',
      value: filter.object,
      type: 'search',
      placeholder: 'an id or a name',
    }),
    field({ name: 'since', label: 'From (UTC)', value: filter.since, type: 'datetime-local' }),
    field({ name: 'until', label: 'To (UTC)', value: filter.until, type: 'datetime-local' }),
  ]}<div class="buttons"><button type="submit">Filter</button> <a href="${base}/audit">Clear</a></div></form>`

const actionTable = (context: ConsoleContext, rows: readonly AuditRow[], hasMore: boolean): Html =>
  table(
    ['Time', 'Principal or role', 'Action', 'Object'],
    rows.map((row) => [
      time(row.at),
      html`${row.principal ?? row.role}${row.principal !== null && html` <small>as ${row.role}</small>`}${
        row.key_id !== null && html` <small>with the key <code>${row.key_id}</code></small>`
      }`,
      html`<code>${row.action}</code>`,
      objectOf(context, row),
    ]),
    {
      caption: 'What people and programs have done, the newest first',
      empty: hasMore ? 'None of the newest rows matches. Older rows may.' : 'Nothing matches.',
    },
  )

/** Links what was acted on, as far as there is a page about it. */
function objectOf({ base }: ConsoleContext, { action, object }: AuditRow): Html {
  if (object === null) return html`–`
  const page = pageOf(action, object)
  return page === undefined ? html`${object}` : html`<a href="${base}${page}">${object}</a>`
}

function pageOf(action: string, object: string): string | undefined {
  const [kind] = action.split('.')
  const name = encodeURIComponent(object)
  if (kind === 'schedule') return `/schedules/${name}`
  if (kind === 'webhook') return action === 'webhook.deleted' ? undefined : `/webhooks/${name}`
  if (['pause', 'resume'].includes(action)) return `/operations/${name}`
  return kind !== 'key' && action !== 'forget' && isUuid(object) ? `/jobs/${name}` : undefined
}
