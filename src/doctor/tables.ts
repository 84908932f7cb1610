import { sql } from 'kysely'
import { formatCount, formatNumber } from '../primitives/format-count.ts'
import { queueSchema } from '../queue/schema.ts'
import type { Check, CheckContext, Finding } from './check.ts'

interface Table {
  relation: string
  live: number
  dead: number
  /** Null: never. */
  vacuumed_at: Date | null
  is_vacuumed: boolean
}

/** Jobs change rows in these tables. */
const ourTables = sql`
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_stat_all_tables stats on stats.relid = c.oid
  where c.relkind = 'r' and (n.nspname = 'accepted' or (n.nspname = ${queueSchema} and c.relname = 'job_common'))`

/** Dead rows of the tables, and whether vacuum comes. */
export const tables: Check = {
  name: 'tables',
  async run(context) {
    const rows = await context.query(sql<Table>`
      select format('%I.%I', n.nspname, c.relname) as relation, stats.n_live_tup::float8 as live,
        stats.n_dead_tup::float8 as dead, greatest(stats.last_vacuum, stats.last_autovacuum) as vacuumed_at,
        not coalesce(c.reloptions && array['autovacuum_enabled=false', 'autovacuum_enabled=off'], false) as is_vacuumed
      ${ourTables} order by stats.n_dead_tup desc, 1`)
    const [worst] = rows
    if (worst) context.note(`${worst.relation} has the most dead rows: ${describe(worst)}`)
    return [...deadRows(rows, context), ...withoutAutovacuum(rows)]
  },
}

const describe = ({ dead, live, vacuumed_at }: Table): string =>
  `${formatNumber(dead)} dead and ${formatNumber(live)} live rows, ${vacuumed_at ? `last vacuumed at ${vacuumed_at.toISOString()}` : 'never vacuumed'}`

function deadRows(rows: readonly Table[], { limits }: CheckContext): Finding[] {
  return rows
    .filter(({ dead, live }) => dead >= limits.deadRows && dead * 5 >= live)
    .slice(0, limits.findings)
    .map((table) => ({
      code: 'dead-rows',
      severity: 'warning',
      message: `${table.relation} has ${describe(table)}. Statements get slower.`,
      action: `vacuum (verbose, analyze) ${table.relation}. If it removes nothing, something holds an old snapshot.`,
      details: { table: table.relation, dead: table.dead, live: table.live, lastVacuum: table.vacuumed_at },
    }))
}

function withoutAutovacuum(rows: readonly Table[]): Finding[] {
  const names = rows.filter(({ is_vacuumed }) => !is_vacuumed).map(({ relation }) => relation)
  if (names.length === 0) return []
  return [
    {
      code: 'table-without-autovacuum',
      severity: 'error',
      message: `Autovacuum is switched off for ${formatCount(names.length, 'table')}: ${names.join(', ')}.`,
      action: names.map((name) => `alter table ${name} reset (autovacuum_enabled)`).join('; '),
      details: { tables: names },
    },
  ]
}
