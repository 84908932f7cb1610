import { CamelCasePlugin, Kysely, ParseJSONResultsPlugin, PostgresDialect } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { get } from '../support/client.ts'
import { createDatabase, queryOnce } from '../support/database.ts'
import { checkMainFlow, createTables, startApi, startWorker, wait } from './main-flow.ts'

type Parsers = Readonly<Record<number, (value: string) => unknown>>

const { builtins } = pg.types

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
}

/** Changes the parsers of this process until the test ends. */
function setParsers(t: Test, parsers: Parsers): void {
  for (const [oid, parse] of Object.entries(parsers)) {
    const before = pg.types.getTypeParser(Number(oid))
    pg.types.setTypeParser(Number(oid), parse)
    t.teardown(() => pg.types.setTypeParser(Number(oid), before))
  }
}

async function createFlowDatabase(t: Test): Promise<string> {
  const url = await createDatabase(t)
  await queryOnce(url, createTables)
  return url
}

for (const [what, parsers] of Object.entries(foreignParsers)) {
  t.test(`parsers of the process (${what}) do not change the answers of the main flow`, async (t) => {
    const databaseUrl = await createFlowDatabase(t)
    setParsers(t, parsers)
    await startWorker(t, databaseUrl)
    const { url } = await startApi(t, databaseUrl)
    await checkMainFlow(t, url)
  })

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
      t.match(job, { status: 'queued', sequence: '1', attempt: 0, resource: null, principal: 'anonymous' })
      t.ok(Math.abs(job.created_at.getTime() - Date.now()) < 60_000)
      t.ok(job.expires_at > runAt)
      t.match(await get(`${url}/jobs/${job.id}`), {
        status: 200,
        body: { id: job.id, createdAt: job.created_at.toISOString(), expiresAt: job.expires_at.toISOString() },
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

t.test('binary results of the process do not change the answers of the main flow', async (t) => {
  const databaseUrl = await createFlowDatabase(t)
  const defaults = pg.defaults as { binary?: boolean }
  defaults.binary = true
  t.teardown(() => {
    defaults.binary = false
  })
  await startWorker(t, databaseUrl)
  const { url } = await startApi(t, databaseUrl)
  await checkMainFlow(t, url)
})
