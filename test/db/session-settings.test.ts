import t, { type Test } from 'tap'
import { migrate } from '../../src/migrate/migrate.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { checkMainFlow, createTables, startApi, startWorker } from './main-flow.ts'

/** Sets a setting that applies to every new connection. */
const set = (url: string, setting: string) =>
  queryOnce(url, `alter database ${new URL(url).pathname.slice(1)} set ${setting}`)

/** Creates a database with a setting that applies to every new connection. */
async function createDatabaseWith(t: Test, setting: string): Promise<string> {
  const url = await createDatabase(t)
  await queryOnce(url, createTables)
  await set(url, setting)
  return url
}

for (const setting of [
  "datestyle = 'German, DMY'",
  "datestyle = 'SQL, DMY'",
  "datestyle = 'Postgres, MDY'",
  'standard_conforming_strings = off',
  "client_encoding = 'LATIN1'",
  'array_nulls = off',
  'bytea_output = escape',
  'intervalstyle = iso_8601',
  'extra_float_digits = -15',
  "timezone = 'Pacific/Kiritimati'",
  "timezone = 'America/St_Johns'",
  'default_transaction_isolation = serializable',
  "default_transaction_isolation = 'repeatable read'",
  'default_transaction_deferrable = on',
  'transform_null_equals = on',
  'quote_all_identifiers = on',
  'xmloption = document',
  'row_security = off',
  'search_path = public, pg_catalog',
  "lock_timeout = '200ms'",
  "statement_timeout = '3s'",
  "idle_session_timeout = '300ms'",
  "idle_in_transaction_session_timeout = '1s'",
  'synchronous_commit = off',
  'plan_cache_mode = force_custom_plan',
  'jit_above_cost = 0',
  'enable_indexscan = off',
  'enable_nestloop = off',
  'client_min_messages = debug1',
  "backslash_quote = 'off'",
  'max_parallel_workers_per_gather = 0',
]) {
  t.test(`with ${setting}, migrating works, and every answer of the main flow is right`, async (t) => {
    const databaseUrl = await createDatabase(t, { empty: true })
    await set(databaseUrl, setting)
    for (let run = 0; run < 2; run++) await migrate({ url: databaseUrl })
    await queryOnce(databaseUrl, createTables)
    await startWorker(t, databaseUrl)
    const { url } = await startApi(t, databaseUrl)
    await checkMainFlow(t, url)
  })
}

for (const [setting, message] of [
  ['session_replication_role = replica', /alter role … set session_replication_role = 'origin'/],
  ['default_transaction_read_only = on', /The server in DATABASE_URL is read-only/],
] as const) {
  t.test(`with ${setting}, the API and the worker refuse to start with one sentence`, async (t) => {
    const databaseUrl = await createDatabaseWith(t, setting)
    for (const start of [startApi, startWorker]) {
      const error = await start(t, databaseUrl).then(
        () => undefined,
        (error: Error) => error,
      )
      t.match(error, { name: 'ConfigError', message })
      t.notMatch(error?.message, '\n')
    }
  })
}

t.test('options in the URL do not change what the API reads', async (t) => {
  const databaseUrl = new URL(await createDatabaseWith(t, "datestyle = 'German, DMY'"))
  databaseUrl.searchParams.set('options', '-c datestyle=SQL,DMY -c standard_conforming_strings=off')
  await startWorker(t, databaseUrl.href)
  const { url } = await startApi(t, databaseUrl.href)
  await checkMainFlow(t, url)
})
