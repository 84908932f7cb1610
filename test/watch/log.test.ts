// Postgres writes its log to a pipe or a file. When nothing reads the pipe, its backends stop.
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { asRole, createTestRoles } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({ text: Type.String() }) })

const batches = 40
const jobsPerBatch = 500

t.test('while thousands of jobs run, Postgres logs nothing', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'accepted-log-'))
  await chmod(dataDir, 0o755)
  t.teardown(() => rm(dataDir, { recursive: true, force: true }))
  const postgres = await startEmbeddedPostgres({ dataDir, settings: { fsync: 'off', log_checkpoints: 'off' } })
  t.teardown(() => postgres.stop('immediate'))
  await createTestRoles(postgres.url)
  await migrate({ url: asRole(postgres.url, 'migrate') })
  const jobs = await openJobs(t, [note], postgres.url)
  await jobs.work(defineHandlers({ note }, { 'note.create': { settle: async () => {} } }))
  const before = (await readFile(postgres.logFile, 'utf8')).length
  // The rows are large, so that they fill more page ranges than the request queue of autovacuum has places.
  const resource = `/notes/${'x'.repeat(1_000)}`
  for (let batch = 0; batch < batches; batch++) {
    const all = Array.from({ length: jobsPerBatch }, () => ({
      ...{ id: uuid7(), operation: note, payload: { text: 'x' }, principal: 'ann', resource },
    }))
    await jobs.database.kysely.transaction().execute((trx) => enqueue(jobs.boss, trx, all))
  }
  await until(
    async () => (await jobs.query("select from accepted.job where status <> 'succeeded' limit 1")).length === 0,
  )
  const logged = (await readFile(postgres.logFile, 'utf8')).slice(before)
  t.equal(logged, '')
})
