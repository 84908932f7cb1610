import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { migrate } from '../../../src/migrate/migrate.ts'
import { asRole, createTestRoles, queryOnce } from '../../support/database.ts'
import { debianProgram } from '../../support/debian-postgres.ts'
import { until } from '../../support/until.ts'
import { check } from '../checker.ts'
import { type Load, sendRequest } from '../client.ts'
import { findServerErrors, findUnnoticedEnds } from '../findings.ts'
import { type Journal, openJournal } from '../journal.ts'
import { holdLock } from '../locks.ts'
import { findStandstill, type Row, type RowContext, waitForAcknowledgements, waitUntilDrained } from '../row.ts'
import { type PostgresServer, startDebian, startServer } from '../server.ts'
import { type Submitted, submit, submitOne } from '../submit.ts'

const run = promisify(execFile)

/** The major version of the old server. The new server is the embedded Postgres, of a later version. */
const debianMajor = 15

export const backup: Row = {
  name: 'pg-dump',
  summary:
    'pg_dump copies the database while jobs are queued and running, and psql restores it on a newer server. Workers there finish every job that had not ended, once. Ended jobs stay. Without the schema of the queue, jobs that had not ended fail with queue-lost.',
  startServer: (directory) => startDebian(debianMajor, join(directory, 'old')),
  async run(context) {
    const old = context.server
    await raiseTransactionIds(context)
    const intents = await createEndedJobs(context)
    const dumped = await dumpWhileRunning(context, intents)
    const findings = [...dumped.findings, ...(await finishOnOldServer(context, intents, dumped))]
    const server = await startServer({ dataDir: join(context.directory, 'new') })
    const close = async () => void (await Promise.all([old.close(), server.close()]))
    try {
      // Roles belong to the server, so the dump of a database does not contain them.
      await runFile(server.urlOf('postgres'), dumped.files.roles, false)
      findings.push(...(await runWithoutQueue(context, server, dumped)))
      const url = await restore(server, 'restored', dumped.files.whole)
      findings.push(...(await runRestored(at(context, url), intents)))
      return {
        faultCount: 2,
        notes: [`${dumped.ended.size} ended, ${dumped.running} running and ${dumped.queued} queued jobs dumped`],
        findings,
        checkAfterDrain: () => findChangedJobs(dumped.ended, url),
        server: { ...server, urlOf: () => url, close },
      }
    } catch (error) {
      await server.close()
      throw error
    }
  },
}

/** Returns the context of another database. Its processes connect without the proxy. */
function at(context: RowContext, url: string): RowContext {
  const other: RowContext = {
    ...context,
    databaseUrl: url,
    query: (text, values) => queryOnce(url, text, values),
    createProcess: (command, options) => context.createProcess(command, { ...options, databaseUrl: () => url }),
    startLoad: (options) => context.startLoad({ url: () => other.apis[0]?.url as string, ...options }),
  }
  return other
}

/** The new server has assigned fewer transaction ids than the old one. Some tables contain such ids. */
async function raiseTransactionIds({ databaseUrl }: RowContext): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query('set synchronous_commit = off')
    await client.query('do $$ begin for n in 1..20000 loop perform pg_current_xact_id(); commit; end loop; end $$')
  } finally {
    await client.end()
  }
}

/** Intents whose jobs are used again after the dump. */
interface Intents {
  failed: Submitted[]
  canceled: Submitted[]
  keyed: (Submitted & { path: string })[]
}

const paths = ['/settled', '/performed'] as const

async function createEndedJobs(context: RowContext): Promise<Intents> {
  const intents: Intents = { failed: [], canceled: [], keyed: [] }
  const load = context.startLoad()
  for (let n = 0; n < 5; n++) intents.failed.push(await submitOne(context, '/failing'))
  for (const path of paths) intents.keyed.push({ path, ...(await submitOne(context, path, { withKey: true })) })
  await waitForAcknowledgements(load, context.isShort ? 50 : 300)
  await load.stop()
  await waitUntilDrained(context, 60)
  return intents
}

/** The rows of `accepted.job` as JSON, by id. */
type JobRows = ReadonlyMap<string, string>

interface Dumped {
  files: Record<'roles' | 'whole' | 'withoutQueue', string>
  /** The jobs that had ended, as they were at the time of the dump. */
  ended: JobRows
  running: number
  queued: number
  /** The intents that were invoked after the snapshot of the dump. */
  laterJournal: Journal
  findings: string[]
}

/** Dumps the database while a lock keeps the workers from settling jobs, and while requests are accepted. */
async function dumpWhileRunning(context: RowContext, intents: Intents): Promise<Dumped> {
  // pg_dump can read the table, but workers cannot write to it.
  await using settling = await holdLock(context, 'lock table effect in share mode')
  for (const path of paths) intents.keyed.push({ path, ...(await submitOne(context, path, { withKey: true })) })
  await submit(context, '/settled', 20)
  await submit(context, '/performed', context.isShort ? 40 : 100)
  for (let n = 0; n < 3; n++) intents.canceled.push(await submitCanceled(context))
  const { running, queued } = await until(async () => {
    const [counts] = await context.query(`
      select count(*) filter (where state = 'active')::integer as running,
        count(*) filter (where state < 'active')::integer as queued
      from accepted_queue.job where name in ('intent.settle', 'intent.perform')`)
    return counts.running > 10 && counts.queued > 10 && (counts as { running: number; queued: number })
  })
  const ended = await readEndedJobs(context.databaseUrl)

  const file = (name: string) => join(context.directory, `${name}.sql`)
  const files = { roles: file('roles'), whole: file('whole'), withoutQueue: file('without-queue') }
  const rolesArgs = ['--dbname', context.databaseUrl, '--roles-only', '--file', files.roles]
  await run(debianProgram(debianMajor, 'pg_dumpall'), rolesArgs)
  const laterJournal = await openJournal(join(context.directory, 'later.jsonl'))
  // pg_dump waits for this lock after it has taken its snapshot.
  await using gate = await holdLock(context, 'lock table permission in access exclusive mode')
  const dumps = Promise.all([
    dump(context.databaseUrl, files.whole),
    dump(context.databaseUrl, files.withoutQueue, '--exclude-schema=accepted_queue'),
  ])
  await Promise.race([dumps, until(async () => (await countWaitingDumps(context)) === 2)])
  const load = context.startLoad({ journal: laterJournal })
  const isAccepting = await waitForAcknowledgements(load, 20)
  await gate.release()
  await dumps
  await settling.release()
  const standstill = await findStandstill(context, load, 20)
  await load.stop()
  const findings = [...(isAccepting ? standstill : ['No requests were accepted during the dump']), ...errorsOf(load)]
  return { files, ended, running, queued, laterJournal, findings }
}

const errorsOf = ({ refusals, unknownOutcomes }: Load) => findServerErrors(refusals, unknownOutcomes)

async function submitCanceled(context: RowContext): Promise<Submitted> {
  const submitted = await submitOne(context, '/performed')
  const response = await fetch(`${submitted.jobUrl}/cancel`, { method: 'POST' })
  const { status } = (await response.json()) as { status?: string }
  if (status !== 'canceled') throw new Error(`A queued job was not canceled, but is ${status}`)
  return submitted
}

const dump = (url: string, file: string, ...args: string[]) =>
  run(debianProgram(debianMajor, 'pg_dump'), ['--dbname', url, '--file', file, ...args])

async function countWaitingDumps({ query }: RowContext): Promise<number> {
  const [{ count }] = await query(
    `select count(*)::integer from pg_stat_activity
    where application_name = 'pg_dump' and wait_event_type = 'Lock' and backend_xmin is not null`,
  )
  return count
}

async function readEndedJobs(url: string): Promise<JobRows> {
  // The text of a time depends on the time zone.
  const rows = await queryOnce(
    `${url}?options=-c%20timezone%3DUTC`,
    'select id, to_jsonb(job)::text as row from accepted.job where ended_at is not null',
  )
  return new Map(rows.map(({ id, row }) => [id, row]))
}

/** Reports the jobs that had ended before the dump and are different now. */
async function findChangedJobs(ended: JobRows, url: string): Promise<string[]> {
  const now = await readEndedJobs(url)
  return [...ended].filter(([id, row]) => now.get(id) !== row).map(([id]) => `${id} had ended and is different now`)
}

/** Lets the old processes finish, stops them, and checks the old database. */
async function finishOnOldServer(context: RowContext, intents: Intents, dumped: Dumped): Promise<string[]> {
  await useAgain(context, intents)
  const pending = await waitUntilDrained(context, 60)
  await endProcesses(context)
  const { journal, directory, databaseUrl } = context
  const read = async () => [...(await journal.read()), ...(await dumped.laterJournal.read())]
  const executions = join(directory, 'executions')
  const { findings } = await check({ journal: { ...journal, read }, executions, databaseUrl })
  await dumped.laterJournal.close()
  return [...(pending > 0 ? [`${pending} jobs did not end`] : []), ...findings].map(
    (text) => `On the old server: ${text}`,
  )
}

const endProcesses = ({ apis, workers }: RowContext) =>
  Promise.all([...apis, ...workers].map((process) => process.end('SIGTERM')))

/** Retries the failed and canceled jobs, which then succeed, and repeats the requests that had a key. */
async function useAgain({ apis, query, journal }: RowContext, { failed, canceled, keyed }: Intents): Promise<void> {
  const url = apis[0]?.url
  await query('insert into permission (token) select unnest($1::text[])', [failed.map(({ token }) => token)])
  for (const { jobUrl } of [...failed, ...canceled]) {
    const path = new URL(jobUrl).pathname
    const { status } = await fetch(`${url}${path}/retry`, { method: 'POST' })
    if (status !== 202) throw new Error(`The retry of ${path} was answered with ${status}`)
  }
  for (const { token, path } of keyed) {
    const key = `key-${token}`
    await journal.append({ token, key, event: 'invoked' })
    await journal.append({ token, key, ...(await sendRequest(`${url}${path}`, { token }, key)) })
  }
}

async function restore(server: PostgresServer, name: string, file: string, stopsAtError = true): Promise<string> {
  await queryOnce(server.urlOf('postgres'), `create database ${name} template template0 encoding 'UTF8'`)
  const url = server.urlOf(name)
  await runFile(url, file, stopsAtError)
  await createTestRoles(url)
  await migrate({ url: asRole(url, 'migrate') })
  return url
}

const runFile = (url: string, file: string, stopsAtError: boolean) =>
  run(debianProgram(debianMajor, 'psql'), [
    ...['--dbname', url, '--no-psqlrc', '--quiet', '--file', file],
    `--set=ON_ERROR_STOP=${stopsAtError ? 1 : 0}`,
  ])

async function runRestored(context: RowContext, intents: Intents): Promise<string[]> {
  await startProcesses(context)
  const load = context.startLoad()
  const findings = await findStandstill(context, load, 20)
  await useAgain(context, intents)
  findings.push(...(await findUnnoticedEnds(context)))
  await load.stop()
  return [...findings, ...errorsOf(load)]
}

async function startProcesses(context: RowContext): Promise<void> {
  context.apis = [await context.createProcess('api')]
  context.workers = [await context.createProcess('worker'), await context.createProcess('worker')]
  const processes = [...context.apis, ...context.workers]
  for (const process of processes) process.start()
  await Promise.all(processes.map((process) => process.ready()))
}

/** Restores the dump without the queue, and lets new processes work on it. */
async function runWithoutQueue(context: RowContext, server: PostgresServer, dumped: Dumped): Promise<string[]> {
  // psql reports that the views cannot be created. Migrating creates them, after the queue that they read.
  const url = await restore(server, 'without_queue', dumped.files.withoutQueue, false)
  const ours = at(context, url)
  const journal = await openJournal(join(context.directory, 'without-queue.jsonl'))
  await startProcesses(ours)
  const load = ours.startLoad({ journal })
  const findings = await findStandstill(ours, load, 20)
  await load.stop()
  const pending = await waitUntilDrained(ours, 60)
  await endProcesses(ours)
  const result = await check({ journal, executions: join(context.directory, 'executions'), databaseUrl: url })
  await journal.close()
  const [{ lost }] = await ours.query(
    "select count(*)::integer as lost from accepted.job where error ->> 'code' = 'queue-lost'",
  )
  const wrong = result.lost + result.duplicated + result.partial + result.wrongStatus
  return [
    ...findings,
    ...errorsOf(load),
    ...(pending > 0 ? [`${pending} jobs did not end`] : []),
    ...(lost === dumped.running + dumped.queued ? [] : [`${lost} jobs failed with queue-lost`]),
    ...(wrong > 0 ? [`Lost, duplicated, partial or wrong: ${wrong}`] : []),
    ...(await findChangedJobs(dumped.ended, url)),
  ].map((text) => `Without the queue: ${text}`)
}
