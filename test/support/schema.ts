import { join } from 'node:path'
import pg from 'pg'

export const schemaFile = join(import.meta.dirname, '../../migrations/schema.sql')

const header = `-- What the migrations add up to, read back from the catalog of a database. Generated: npm run schema
`

// Partitions follow their parent; tables of Kysely are its own.
const tables = `
  select c.oid, c.relname as name, c.relkind as kind
  from pg_class c
  where c.relnamespace = 'accepted'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
    and c.relname !~ '^(app_)?migration'
  order by c.relkind = 'v', c.relname`

/** The schema accepted as SQL text, in a stable order. */
export async function describeSchema(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const parts = [await describeTypes(client), ...(await describeTables(client)), await describeFunctions(client)]
    return `${header}\n${parts.join('\n\n')}\n`
  } finally {
    await client.end()
  }
}

async function describeTypes(client: pg.Client): Promise<string> {
  const { rows } = await client.query(`
    select format('create type accepted.%I as enum (%s);', t.typname,
      string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)) as text
    from pg_type t join pg_enum e on e.enumtypid = t.oid
    where t.typnamespace = 'accepted'::regnamespace
    group by t.typname order by t.typname`)
  return rows.map(({ text }) => text).join('\n')
}

async function describeTables(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query(tables)
  const parts: string[] = []
  for (const { oid, name, kind } of rows) {
    const definition = await (kind === 'v' ? describeView : describeTable)(client, oid, name)
    parts.push(`${definition}\n${await describeComments(client, oid, name, kind)}`)
  }
  return parts
}

async function describeTable(client: pg.Client, oid: number, name: string): Promise<string> {
  const columns = await client.query(
    `select format('  %I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
        ' default ' || pg_get_expr(d.adbin, d.adrelid), case when a.attnotnull then ' not null' end) as text
     from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum`,
    [oid],
  )
  const constraints = await client.query(
    `select format('  constraint %I %s', conname, pg_get_constraintdef(oid)) as text
     from pg_constraint where conrelid = $1 and contype <> 'n' order by contype = 'c', conname`,
    [oid],
  )
  const partitioned = await client.query('select pg_get_partkeydef($1::oid) as key', [oid])
  const indexes = await client.query(
    `select format(E'%s;\\ncomment on index %s is %L;', pg_get_indexdef(i.indexrelid), i.indexrelid::regclass,
       obj_description(i.indexrelid, 'pg_class')) as text
     from pg_index i left join pg_constraint c on c.conindid = i.indexrelid
     where i.indrelid = $1 and c.oid is null order by 1`,
    [oid],
  )
  const key = partitioned.rows[0].key ? ` partition by ${partitioned.rows[0].key}` : ''
  const members = [...columns.rows, ...constraints.rows].map(({ text }) => text)
  return [
    `create table accepted.${name} (`,
    members.join(',\n'),
    `)${key};`,
    ...indexes.rows.map(({ text }) => text),
  ].join('\n')
}

async function describeView(client: pg.Client, oid: number, name: string): Promise<string> {
  const { rows } = await client.query('select pg_get_viewdef($1::oid, true) as text', [oid])
  return `create view accepted.${name} as\n${rows[0].text}`
}

async function describeComments(client: pg.Client, oid: number, name: string, kind: string): Promise<string> {
  const { rows } = await client.query(
    `select format('comment on %s accepted.%I is %L;', $3::text, $2::text, obj_description($1, 'pg_class')) as text
     union all (
       select format('comment on column accepted.%I.%I is %L;', $2::text, attname, col_description($1, attnum))
       from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped order by attnum)`,
    [oid, name, kind === 'v' ? 'view' : 'table'],
  )
  return rows.map(({ text }) => text).join('\n')
}

async function describeFunctions(client: pg.Client): Promise<string> {
  const { rows } = await client.query(`
    select rtrim(pg_get_functiondef(p.oid), E'\\n') || E';\\n' || format('comment on function %s is %L;',
      p.oid::regprocedure, obj_description(p.oid, 'pg_proc')) as text
    from pg_proc p where p.pronamespace = 'accepted'::regnamespace order by p.proname`)
  return rows.map(({ text }) => text).join('\n\n')
}
