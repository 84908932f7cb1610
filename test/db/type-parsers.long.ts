import { createRequire } from 'node:module'
import {
  CamelCasePlugin,
  DeduplicateJoinsPlugin,
  Kysely,
  type KyselyPlugin,
  ParseJSONResultsPlugin,
  PostgresDialect,
} from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { get } from '../support/client.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { checkEnqueue, checkMainFlow, createTables, startApi, startWorker, wait } from './main-flow.ts'

type Parsers = Readonly<Record<number, (value: string) => unknown>>

const { builtins } = pg.types

const textArray = 1009
const timestamptzArray = 1185
const uuidArray = 2951

/** A date as some libraries make it: an instance of Date in the time zone of the process. */
class LibraryDate extends Date {
  static fromSql(value: string): LibraryDate {
    return new LibraryDate(value.replace(/[+-].*$/, ''))
  }
  override toISOString(): string {
    return this.toLocaleString('en-GB')
  }
}

/** Type parsers that apps have, or could have. */
const foreignParsers: Readonly<Record<string, Parsers>> = {
  'dates as text': { [builtins.TIMESTAMPTZ]: String, [builtins.TIMESTAMP]: String, [builtins.DATE]: String },
  'JSON as text and bigint as BigInt': {
    ...{ [builtins.JSON]: String, [builtins.JSONB]: String },
    ...{ [builtins.INT8]: BigInt, [builtins.NUMERIC]: Number, [builtins.TIMESTAMPTZ]: (value) => Date.parse(value) },
  },
  'an object for every type but text': Object.fromEntries(
    [...Object.values(builtins), 19, 1007, 1009, 1016, 1185, 2951, 3807, 5069]
      .filter((oid) => oid !== builtins.TEXT)
      .map((oid) => [oid, (value: string) => ({ value })]),
  ),
  'dates of a library': {
    [builtins.TIMESTAMPTZ]: (value) => LibraryDate.fromSql(value),
    [timestamptzArray]: (value) => value.slice(1, -1).split(','),
    [builtins.INTERVAL]: (value) => ({ toISO: () => value }),
  },
}

/** With these, an app cannot read its own rows either. */
const failingParsers: Parsers = Object.fromEntries(
  [
    ...[builtins.BOOL, builtins.INT4, builtins.INT8, builtins.UUID, builtins.JSON, builtins.JSONB],
    ...[builtins.TIMESTAMPTZ, builtins.NUMERIC, builtins.FLOAT8, textArray, uuidArray],
  ].map((oid) => [
    oid,
    (value: string) => {
      throw new Error(`cannot read ${value}`)
    },
  ]),
)

/** Changes the parsers of this process until the test ends. */
function setParsers(t: Test, parsers: Parsers): void {
  for (const [oid, parse] of Object.entries(parsers)) {
    const before = pg.types.getTypeParser(Number(oid))
    pg.types.setTypeParser(Number(oid), parse)
    t.teardown(() => pg.types.setTypeParser(Number(oid), before))
  }
}

/** A plugin that changes every row. */
class HideDates implements KyselyPlugin {
  transformQuery: KyselyPlugin['transformQuery'] = ({ node }) => node
  transformResult: KyselyPlugin['transformResult'] = async ({ result }) => ({
    ...result,
    rows: result.rows.map((row) => Object.fromEntries(Object.keys(row).map((name) => [name, 'hidden']))),
  })
}

async function createFlowDatabase(t: Test): Promise<string> {
  const url = await createDatabase(t)
  await queryOnce(url, createTables)
  return url
}

for (const [what, parsers] of Object.entries({
  ...foreignParsers,
  'failing for every type but text': failingParsers,
})) {
  t.test(`parsers of the process (${what}) do not change the answers of the main flow`, async (t) => {
    const databaseUrl = await createFlowDatabase(t)
    setParsers(t, parsers)
    await startWorker(t, databaseUrl)
    const { url } = await startApi(t, databaseUrl)
    await checkMainFlow(t, url)
  })
}

for (const [what, parsers] of Object.entries(foreignParsers)) {
  t.test(`parsers of the app's own pool (${what}) do not change a job that the app enqueues`, async (t) => {
    const databaseUrl = await createFlowDatabase(t)
    await queryOnce(databaseUrl, `alter database ${new URL(databaseUrl).pathname.slice(1)} set array_nulls = off`)
    const { app, url } = await startApi(t, databaseUrl)
    const types = {
      getTypeParser: (oid: number) => parsers[oid] ?? ((value: string) => pg.types.getTypeParser(oid)(value)),
    } as pg.CustomTypesConfig
    const pool = new pg.Pool({ connectionString: databaseUrl, types })
    // The database may be dropped before the last connection has closed.
    pool.on('error', () => {})
    t.teardown(() => pool.end())
    const runAt = new Date(Date.now() + 3_600_000)
    const check = async (job: Awaited<ReturnType<typeof app.accepted.enqueue>>) => {
      t.match(job, { status: 'queued', sequence: 1, attempt: 0 })
      t.ok(Math.abs(new Date(job.createdAt).getTime() - Date.now()) < 60_000)
      t.ok(new Date(job.expiresAt) > runAt)
      t.match(await get(`${url}/jobs/${job.id}`), {
        status: 200,
        body: { id: job.id, createdAt: job.createdAt, expiresAt: job.expiresAt },
      })
      const [row] = await queryOnce(
        databaseUrl,
        'select idempotency_key is null as has_no_key, resource is null as has_no_resource from accepted.job where id = $1',
        [job.id],
      )
      t.same(row, { has_no_key: true, has_no_resource: true })
    }
    const client = await pool.connect()
    await client.query('begin')
    const job = await app.accepted.enqueue(client, wait, { word: 'x' }, { runAt })
    await client.query('commit')
    client.release()
    await check(job)
    const plugins = [new CamelCasePlugin(), new ParseJSONResultsPlugin()]
    const kysely = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }), plugins })
    await check(
      await kysely.transaction().execute((trx) => app.accepted.enqueue(trx as never, wait, { word: 'x' }, { runAt })),
    )
  })
}

for (const defaults of [
  { binary: true },
  { parseInt8: true, parseInputDatesAsUTC: true },
  { client_encoding: 'LATIN1', application_name: 'app', options: '-c datestyle=German -c array_nulls=off' },
  { statement_timeout: 2_000, lock_timeout: 200, idle_in_transaction_session_timeout: 100, query_timeout: 5_000 },
]) {
  t.test(`defaults of the process (${Object.keys(defaults)}) do not change the answers of the main flow`, async (t) => {
    const databaseUrl = await createFlowDatabase(t)
    const before = { ...pg.defaults }
    Object.assign(pg.defaults, defaults)
    t.teardown(() => Object.assign(pg.defaults, { binary: false, parseInt8: false, options: undefined }, before))
    await startWorker(t, databaseUrl)
    const api = await startApi(t, databaseUrl)
    await checkMainFlow(t, api.url)
    await checkEnqueue(t, api, databaseUrl)
  })
}

t.test("a client of the app's own copy of pg enqueues a job", async (t) => {
  const databaseUrl = await createFlowDatabase(t)
  const require = createRequire(import.meta.url)
  for (const path of Object.keys(require.cache)) if (/node_modules.pg(-\w+)?\W/.test(path)) delete require.cache[path]
  const copy = require('pg') as typeof pg
  t.not(copy.Client, pg.Client)
  const api = await startApi(t, databaseUrl)
  await checkEnqueue(t, api, databaseUrl, copy.Client)
})

t.test("plugins and a schema of the app's own Kysely instance do not change a job that it enqueues", async (t) => {
  const databaseUrl = await createFlowDatabase(t)
  const { app, url } = await startApi(t, databaseUrl)
  const pool = new pg.Pool({ connectionString: databaseUrl })
  // The database may be dropped before the last connection has closed.
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  const plugins = [new CamelCasePlugin({ upperCase: true }), new DeduplicateJoinsPlugin(), new HideDates()]
  const kysely = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }), plugins }).withSchema('nowhere')
  const job = await kysely.transaction().execute((trx) => app.accepted.enqueue(trx as never, wait, { word: 'x' }))
  t.match(await get(`${url}/jobs/${job.id}`), { status: 200, body: { createdAt: job.createdAt } })
})
