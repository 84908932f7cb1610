import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConfigError } from '../config.ts'
import { findMissingQueueParts } from '../queue/install.ts'
import { queueSchema } from '../queue/schema.ts'
import { ownDirectory } from './files.ts'
import type { MigrationSession } from './session.ts'
import { splitStatements } from './statements.ts'

/** Shows the result of all our migrations. It is generated from the catalog, so its form is known. */
const schemaFile = join(ownDirectory, 'schema.sql')

interface Part {
  kind: 'table' | 'view' | 'column' | 'constraint' | 'index' | 'type' | 'function' | 'trigger'
  name: string
}

const definition = /^create (?:or replace )?(?:unique )?(table|view|type|function|index|trigger) ([\w.]+)/
const indexedTable = /\bon (?:only )?(\w+)\./
const triggerTable = /\bon ([\w.]+)/
const constraintLine = /^ {2}constraint (\w+) /
const columnLine = /^ {2}(\w+) /

/** Lists the parts that a statement of schema.sql creates. */
function partsOf(statement: string): Part[] {
  const [, kind, name] = definition.exec(statement) ?? []
  if (!kind || !name) return []
  if (kind === 'index') return [{ kind, name: `${indexedTable.exec(statement)?.[1]}.${name}` }]
  if (kind === 'trigger') return [{ kind, name: `${triggerTable.exec(statement)?.[1]}.${name}` }]
  const parts: Part[] = [{ kind: kind as Part['kind'], name }]
  if (kind !== 'table') return parts
  for (const line of statement.split('\n')) {
    const constraint = constraintLine.exec(line)?.[1]
    const column = columnLine.exec(line)?.[1]
    if (constraint) parts.push({ kind: 'constraint', name: `${name}.${constraint}` })
    else if (column) parts.push({ kind: 'column', name: `${name}.${column}` })
  }
  return parts
}

const findExisting = `
  select case c.relkind when 'v' then 'view' when 'i' then 'index' when 'I' then 'index' else 'table' end as kind,
    n.nspname || '.' || c.relname as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname ~ '^accepted'
  union all
  select 'column', 'accepted.' || c.relname || '.' || attname
  from pg_attribute join pg_class c on c.oid = attrelid
  where c.relnamespace = to_regnamespace('accepted') and attnum > 0 and not attisdropped
  union all
  select 'constraint', 'accepted.' || c.relname || '.' || conname
  from pg_constraint join pg_class c on c.oid = conrelid where c.relnamespace = to_regnamespace('accepted')
  union all
  select 'trigger', n.nspname || '.' || c.relname || '.' || tgname
  from pg_trigger join pg_class c on c.oid = tgrelid join pg_namespace n on n.oid = c.relnamespace
  where n.nspname ~ '^accepted'
  union all
  select 'type', 'accepted.' || typname from pg_type where typnamespace = to_regnamespace('accepted')
  union all
  select 'function', 'accepted.' || proname from pg_proc where pronamespace = to_regnamespace('accepted')`

/** Finds parts that exist but are switched off, and missing parts that {@link schemaFile} does not list. */
const findUnusable = `
  select 'enabled trigger ' || tgrelid::regclass || '.' || tgname as part
  from pg_trigger join pg_class c on c.oid = tgrelid
  where c.relnamespace = to_regnamespace('accepted') and not tgisinternal and tgenabled = 'D'
  union all
  select 'primary key of table ' || c.oid::regclass from pg_class c
  where (c.relnamespace = to_regnamespace('${queueSchema}') or c.relname ~ '^(app_)?migration$'
      and c.relnamespace = to_regnamespace('accepted'))
    and c.relkind in ('r', 'p') and not exists (select from pg_index where indrelid = c.oid and indisprimary)
  union all
  select 'valid index ' || indexrelid::regclass from pg_index join pg_class c on c.oid = indrelid
  where c.relnamespace in (to_regnamespace('accepted'), to_regnamespace('${queueSchema}'))
    and not (indisvalid and indisready)
  union all
  select 'partition accepted.job_default of accepted.job'
  where to_regclass('accepted.job_default') is not null and not exists (
    select from pg_partitioned_table where partrelid = to_regclass('accepted.job') and partdefid <> 0
  )`

/** Tables and types are not created again: their rows are missing too. */
const restorable: readonly Part['kind'][] = ['view', 'index', 'function', 'trigger']

/**
 * Returns the SQL that creates missing views, functions, indexes and triggers, and repeats the settings of the queue's
 * tables. A backup without the schema of the queue lacks all that depends on that schema.
 */
export async function planMissingParts(session: MigrationSession): Promise<string> {
  const existing = new Set((await session.query(findExisting)).map(({ kind, name }) => `${kind} ${name}`))
  const isNeeded = (statement: string) => {
    const [part] = partsOf(statement)
    if (!part) return statement.startsWith(`alter table ${queueSchema}.`)
    return restorable.includes(part.kind) && !existing.has(`${part.kind} ${part.name}`)
  }
  const needed: string[] = []
  let isPartNeeded = false
  for (const { text } of splitStatements(await readFile(schemaFile, 'utf8'))) {
    // The comments on a part follow it.
    if (!text.startsWith('comment on ')) isPartNeeded = isNeeded(text)
    if (isPartNeeded) needed.push(`${text};`)
  }
  return needed.join('\n')
}

/** The tables of one row, which only a migration inserts. */
const onlyRows = ['accepted.change_expiry', 'accepted.reconciliation']

/**
 * Checks that all parts of the schemas exist. Without this check, the migrations would count as applied although a
 * person or a restored backup has left parts out.
 *
 * @throws ConfigError that names the missing parts
 */
export async function assertComplete(session: MigrationSession): Promise<void> {
  const key = ({ kind, name }: { kind?: string | null; name?: string | null }) => `${kind} ${name}`
  const existing = new Set((await session.query(findExisting)).map(key))
  const expected = splitStatements(await readFile(schemaFile, 'utf8')).flatMap(({ text }) => partsOf(text))
  const ours = expected.map(key).filter((part) => !existing.has(part))
  const queue = await findMissingQueueParts((text) => session.query(text))
  const unusable = (await session.query(findUnusable)).map(({ part }) => part as string)
  for (const table of onlyRows.filter((table) => existing.has(`table ${table}`))) {
    const rows = await session.query(`select from ${table}`)
    if (rows.length === 0) unusable.push(`row of table ${table}`)
  }
  // The columns and constraints of a missing table need no mention.
  const tables = ours.filter((part) => part.startsWith('table ')).map((part) => part.slice('table '.length))
  const missing = [
    ...ours.filter((part) => !tables.some((table) => part.includes(` ${table}.`))),
    ...queue,
    ...unusable,
  ]
  if (missing.length === 0) return
  const statements = ours.length > 0 ? ` The statements that create them are in ${schemaFile}.` : ''
  throw new ConfigError(
    `Parts of the schema are missing although all migrations have run: ${missing.join(', ')}. Create them again, or restore a backup.${statements}`,
  )
}
