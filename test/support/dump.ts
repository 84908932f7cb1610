import type { Database } from '../../src/db/database.ts'

/** Reads every row of every table of a database as text, like a dump: binary columns are in hexadecimal. */
export async function dump({ pool }: Pick<Database, 'pool'>): Promise<string> {
  const { rows: tables } = await pool.query<{ name: string }>(`
    select format('%I.%I', nspname, relname) as name from pg_class join pg_namespace n on n.oid = relnamespace
    where relkind in ('r', 'm') and nspname not in ('pg_catalog', 'information_schema') and nspname not like 'pg_toast%'`)
  const texts: string[] = []
  for (const { name } of tables) {
    const { rows } = await pool.query<{ text: string }>(`select one::text as text from ${name} one`)
    texts.push(`${name}\n`, ...rows.map(({ text }) => `${text}\n`))
  }
  return texts.join('')
}
