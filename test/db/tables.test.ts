import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript-5'
import { createDatabase, queryOnce } from '../support/database.ts'

const tablesFile = join(import.meta.dirname, '../../src/db/tables.ts')

/** A column, for example `accepted.job.percent, nullable, optional`. An insert may leave out an optional column. */
type Column = string

const describe = (name: string, { nullable, optional }: { nullable: boolean; optional: boolean }): Column =>
  [name, ...(nullable ? ['nullable'] : []), ...(optional ? ['optional'] : [])].join(', ')

/** Reads the columns from the interfaces in tables.ts. Kysely's ColumnType has one type for each kind of statement. */
function readInterfaces(): Set<Column> {
  const program = ts.createProgram([tablesFile], {
    strict: true,
    noEmit: true,
    target: ts.ScriptTarget.ES2024,
    module: ts.ModuleKind.NodeNext,
    types: ['node'],
  })
  const checker = program.getTypeChecker()
  const declaration = program
    .getSourceFile(tablesFile)
    ?.statements.find((statement) => ts.isInterfaceDeclaration(statement) && statement.name.text === 'Tables')
  if (!declaration) throw new Error(`${tablesFile} has no interface Tables`)

  const toColumn = (table: ts.Symbol, column: ts.Symbol): Column => {
    const type = checker.getTypeOfSymbol(column)
    const typeFor = (statement: '__select__' | '__insert__') => {
      const property = type.getProperty(statement)
      return property ? checker.getTypeOfSymbol(property) : type
    }
    const isAllowed = (value: ts.Type, wanted: ts.Type) => checker.isTypeAssignableTo(value, wanted)
    const inserted = typeFor('__insert__')
    return describe(`${table.name}.${column.name}`, {
      nullable: isAllowed(checker.getNullType(), typeFor('__select__')),
      // `never` is the type of a generated column, which cannot be inserted.
      optional:
        Boolean(inserted.flags & ts.TypeFlags.Never) ||
        [checker.getNullType(), checker.getUndefinedType()].some((value) => isAllowed(value, inserted)),
    })
  }
  const columns = checker
    .getTypeAtLocation(declaration)
    .getProperties()
    .flatMap((table) => {
      const properties = checker.getTypeOfSymbol(table).getProperties()
      return properties.map((column) => toColumn(table, column))
    })
  return new Set(columns)
}

/** Reads the columns of the schema `accepted`. Leaves out partitions and Kysely's migration tables. */
async function readSchema(databaseUrl: string): Promise<Set<Column>> {
  const rows: { name: string; nullable: boolean; optional: boolean }[] = await queryOnce(
    databaseUrl,
    `select 'accepted.' || c.relname || '.' || a.attname as name,
      not a.attnotnull as nullable, not a.attnotnull or a.atthasdef as optional
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'accepted'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and c.relname !~ '^(app_)?migration'`,
  )
  return new Set(rows.map(({ name, ...column }) => describe(name, column)))
}

const compare = (interfaces: ReadonlySet<Column>, schema: ReadonlySet<Column>) => ({
  onlyInInterfaces: [...interfaces].filter((column) => !schema.has(column)).sort(),
  onlyInSchema: [...schema].filter((column) => !interfaces.has(column)).sort(),
})

t.test('src/db/tables.ts has the tables and columns of the schema, with their nullability and defaults', async (t) => {
  const schema = await readSchema(await createDatabase(t))
  t.ok(schema.has('accepted.job.id') && schema.has('accepted.job.resource, nullable, optional'))
  t.same(compare(readInterfaces(), schema), { onlyInInterfaces: [], onlyInSchema: [] })
})

t.test('the comparison finds a table, a column, a nullability and a default that differ', async (t) => {
  const databaseUrl = await createDatabase(t)
  const before = await readSchema(databaseUrl)
  await queryOnce(
    databaseUrl,
    `create table accepted.added (id integer not null);
    alter table accepted.run_time add added text, alter seconds drop not null, alter updated_at drop default;
    alter table accepted.expiry drop next_page`,
  )
  t.same(compare(before, await readSchema(databaseUrl)), {
    onlyInInterfaces: [
      'accepted.expiry.next_page',
      'accepted.run_time.seconds',
      'accepted.run_time.updated_at, optional',
    ],
    onlyInSchema: [
      'accepted.added.id',
      'accepted.run_time.added, nullable, optional',
      'accepted.run_time.seconds, nullable, optional',
      'accepted.run_time.updated_at',
    ],
  })
})
