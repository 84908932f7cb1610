import { execFile, spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify, stripVTControlCharacters } from 'node:util'
import t, { type Test } from 'tap'
import { openTestDatabase } from '../support/database.ts'
import { run } from '../support/in-process.ts'
import { todosConfig } from '../support/program.ts'
import { until } from '../support/until.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')
const database = await openTestDatabase(t)
const DATABASE_URL = database.options.url
const jobs = (...args: string[]) => run(['jobs', ...args], { DATABASE_URL })
const query = async (text: string, ...values: unknown[]) => (await database.pool.query(text, values)).rows
const enqueue = async (options = '', operation = 'todo.create') => {
  const [row] = await query(`select accepted.enqueue('${operation}', '{"todoId": "x"}'${options}) as id`)
  return row.id as string
}
const ids = (out: string) => (JSON.parse(out) as { id: string }[]).map(({ id }) => id)

await run(['migrate', '--config', todosConfig], { DATABASE_URL })
const old = await enqueue(`, principal => 'bob'`)
const failing = await enqueue(`, principal => 'ann'`)
const deferred = await enqueue(`, principal => 'ann', run_at => now() + interval '3 hours'`)
const parent = await enqueue()
const child = await enqueue()
const keyed = await enqueue(`, idempotency_key => 'a key'`)
// As if a worker had run the first attempt of one job, and had claimed another.
await query(
  `insert into accepted.attempt (job_id, attempt, error, started_at, failed_at)
  values ($1, 1, '{"code": "handler-error", "message": "No luck"}', now(), now())`,
  failing,
)
await query(`update accepted.job set attempt = 1 where id = $1`, failing)
await query(`update accepted.job set parent = $2, resource = '/todos/1' where id = $1`, child, parent)

t.test('list has the filters of a person who looks for jobs', async (t) => {
  const found = async (...args: string[]) => ids((await jobs('list', '--json', ...args)).out)
  t.same(await found('--principal', 'ann'), [deferred, failing])
  t.same(
    await found('--error', 'handler-error', '--status', 'queued'),
    [failing],
    'the last attempt failed with this code',
  )
  t.same(await found('--error', 'handler-error'), [], 'no job failed')
  t.same(await found('--key', 'a key'), [keyed])
  t.same(await found('--resource', '/todos/1'), [child])
  t.same(await found('--until', '1h'), [])
  t.same(await found('--until', '2127-01-01', '--before', failing), [old])
  t.same(await found('--parent', parent), [child])
  t.same(await found('--since', '1h', '--limit', '2'), [keyed, child])
  t.same(await found('--since', '2127-01-01'), [])
  t.same(await found('--operation', 'todo.create', '--status', 'queued', '--principal', 'bob'), [old])
  t.match(await jobs('list', '--before', 'x'), { code: 1, err: "error: --before must be the id of a job, not 'x'.\n" })
  t.match(await jobs('list', '--parent', 'x'), { code: 1, err: "error: --parent must be the id of a job, not 'x'.\n" })
})

t.test('show explains a job: what it waits for, its errors, its timeline, and what to do', async (t) => {
  const shown = await jobs('show', deferred)
  t.match(shown, { code: 0, err: '' })
  t.match(shown.out, new RegExp(`^ID +${deferred}\nOperation +todo\\.create\nStatus +queued\nPrincipal +ann\n`))
  t.match(shown.out, /\nTo do +Start a worker that claims todo\.create: no live worker does\.\n/)
  t.match(
    shown.out,
    /\n\nAT +EVENT +ATTEMPT +WORKER +DETAIL\n\S+Z +accepted +by ann, to run at .*\n\S+Z +due +deferred\n$/,
  )
  await query(`insert into accepted.worker (id, host, pid, version, operations, status, heartbeat_at)
    values (gen_random_uuid(), 'box', 7, '1', '{todo.create}', 'ready', now() + interval '1 day')`)
  t.match((await jobs('show', deferred)).out, `To run it now: accepted jobs run ${deferred}`)
  t.match(
    (await jobs('show', failing)).out,
    /\nError +handler-error: No luck\n(?:.*\n)+.* attempt failed +1 +handler-error: No/,
  )
  await query(`select accepted.pause('todo.create', 'a deploy')`)
  t.match(
    (await jobs('show', old)).out,
    /\nWaits for +the operation is paused\nTo do +.*paused, and jobs wait: a deploy\. When .* gone: accepted operations resume todo\.create\n/,
  )
  await query(`select accepted.resume('todo.create')`)
  t.match(JSON.parse((await jobs('show', failing, '--json')).out), {
    ...{ id: failing, status: 'queued', workers: 1, waiting_for: [], problems: [] },
    failed_attempts: [{ attempt: 1, error: { code: 'handler-error' } }],
    timeline: [{ event: 'accepted' }, {}, {}, {}],
  })
  t.equal(JSON.parse((await jobs('show', old, failing, '--json')).out).length, 2, 'of several jobs, an array')
  t.match(await jobs('show', parent, 'none', child), {
    ...{ code: 1, out: new RegExp(`ID +${parent}\n(?:.*\n)+\nID +${child}`) },
    err: 'error: There is no job none, or its record is gone. `accepted jobs list` lists the newest jobs.\n',
  })
})

t.test('show counts the children of a batch, and shows the first failures', async (t) => {
  const [{ batch }] = await query(
    `select accepted.enqueue_batch((
      select jsonb_agg(jsonb_build_object('operation', 'webhook.deliver', 'payload', '{}'::jsonb))
      from generate_series(1, 9)
    )) as batch`,
  )
  const children: string[] = (await query('select id from accepted.job where parent = $1 order by id', batch)).map(
    ({ id }) => id,
  )
  await query('select accepted.cancel($1)', children[8])
  await query(
    `update accepted.job set status = 'failed', ended_at = now(), started_at = now(),
      error = '{"code": "handler-error", "message": "No luck"}' where id = any($1)`,
    children.slice(0, 7),
  )
  const counts = { total: 9, succeeded: 0, failed: 7, canceled: 1 }
  await query('update accepted.job set children = $2 where id = $1', batch, counts)
  const { out } = await jobs('show', batch)
  t.match(
    out,
    `\nChildren   9: 7 failed, 1 canceled, 1 not ended. To list them: accepted jobs list --parent ${batch}\n`,
  )
  t.match(
    out,
    new RegExp(`\\n\\nFAILED CHILD +OPERATION +ERROR\\n${children[0]} +webhook\\.deliver +handler-error: No luck\\n`),
  )
  t.match(out, `\n… and 2 more. To list them: accepted jobs list --parent ${batch} --status failed\n`)
  t.notMatch(out, children[8])
  t.match(JSON.parse((await jobs('show', batch, '--json')).out), {
    ...{ children: counts, failed_children: children.slice(0, 5).map((id) => ({ id })) },
    timeline: [{ event: 'accepted' }, { event: 'started', attempt: null }],
  })
})

t.test('workers list shows silent workers last', async (t) => {
  await query(`insert into accepted.worker (id, host, pid, version, operations, status, heartbeat_at) values
    (accepted.uuid7(), 'a', 1, '1', '{}', 'ready', now() - interval '1 minute'),
    (accepted.uuid7(), 'b', 2, '1', '{}', 'ready', now())`)
  const { out } = await run(['workers', 'list', '--json'], { DATABASE_URL })
  t.match(JSON.parse(out).at(-1), { worker: 'a:1', running: 0 })
  await query(`delete from accepted.worker where host in ('a', 'b')`)
})

t.test('run makes a deferred job due, cancel and retry take several jobs', async (t) => {
  // An operation without abandon, so that no process needs to run for the cancellation.
  const [first, second] = [
    await enqueue(`, run_at => now() + interval '3 hours'`, 'webhook.deliver'),
    await enqueue('', 'webhook.deliver'),
  ]
  t.match(await jobs('run', first), {
    code: 0,
    out: `${first} is due now. To follow it: accepted jobs watch ${first}\n`,
  })
  t.match(await query('select due_at <= now() as is_due from accepted.job_overview where id = $1', first), [
    { is_due: true },
  ])
  t.match(await jobs('cancel', first, second), { code: 0, out: `Canceled ${first}.\nCanceled ${second}.\n` })
  t.match(await jobs('run', first), {
    code: 1,
    err: /^error: Job \S+ is not waiting in the queue: it is canceled\. To see where a job is: accepted jobs show <id>\n/,
  })
  t.match((await jobs('show', first)).out, `To run it again: accepted jobs retry ${first}`)
  const retries = JSON.parse((await jobs('retry', first, second, '--json')).out)
  t.match(retries, [{ retryOf: first }, { retryOf: second }])
  t.match((await jobs('show', first)).out, `Nothing: it was retried as job ${retries[0].id}, which is queued.`)
  const some = await jobs('cancel', retries[0].id, 'x')
  t.match(some, {
    code: 1,
    out: `Canceled ${retries[0].id}.\n`,
    err: /^error: There is no job x, or its record is gone/,
  })
})

t.test('watch follows a job until its end, and its exit code is that of the job', async (t) => {
  const end = (id: string, status: string) =>
    query(
      `update accepted.job set status = $2::accepted.job_status, ended_at = now(), started_at = now(),
        error = case $2::text when 'failed' then '{"code": "handler-error", "message": "No luck"}'::jsonb end where id = $1`,
      ...[id, status],
    )
  const watching = jobs('watch', parent)
  await query(`update accepted.job set percent = 40, message = 'half way' where id = $1`, parent)
  await end(parent, 'succeeded')
  t.match(await watching, { code: 0, out: /succeeded {2}100 % {2}half way\n$/ })
  await end(child, 'failed')
  t.match(await jobs('watch', child), { code: 1, out: 'failed  0 %: handler-error: No luck\n' })
  t.match(JSON.parse((await jobs('watch', child, '--json')).out), { id: child, status: 'failed' })
  t.match(await jobs('watch', 'none'), { code: 1, err: /^error: There is no job none/ })
})

const exec = promisify(execFile)
const hasScript = await exec('script', ['--version']).then(
  () => true,
  () => false,
)

/** Runs a command on a terminal with a width. `script` gives it the terminal. */
async function onTerminal(columns: number, args: string, env: NodeJS.ProcessEnv = {}) {
  const command = `stty cols ${columns} rows 20; ${process.execPath} --conditions=accepted-source ${main} ${args}`
  const { stdout } = await exec('script', ['-qefc', command, '/dev/null'], {
    env: { PATH: process.env.PATH, TERM: 'xterm-256color', DATABASE_URL, ...env },
  })
  return stdout.replaceAll('\r\n', '\n')
}

t.test('on a terminal, a list fits the width, has relative times and colours', { skip: !hasScript }, async (t) => {
  const [narrow, wide] = await Promise.all([
    onTerminal(80, 'jobs list'),
    onTerminal(200, 'jobs list', { NO_COLOR: '1' }),
  ])
  const lines = stripVTControlCharacters(narrow).trimEnd().split('\n')
  t.ok(lines.length > 5 && lines.every((line) => line.length <= 80))
  t.match(narrow, '\u001b[31mfailed\u001b[39m')
  t.match(lines[0], /^ID +OPERATION +STATUS +CREATED +ERROR$/)
  t.match(narrow, /(now|\ds ago)/)
  t.notMatch(wide, '\u001b[')
  t.match(wide, /^ID +OPERATION +STATUS +CREATED +ENDED +PRINCIPAL +ATTEMPT +ERROR\n/)
})

/** Starts a list with --watch, and collects the lines that it prints. */
function watchList(t: Test, ...args: string[]): string[] {
  const child = spawn(process.execPath, ['--conditions=accepted-source', main, ...args, '--watch'], {
    env: { ...process.env, DATABASE_URL },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill())
  const lines: string[] = []
  createInterface(child.stdout).on('line', (line) => lines.push(line))
  return lines
}

t.test('with --watch, a list prints its changes in a pipe', async (t) => {
  const jobLines = watchList(t, 'jobs', 'list', '--json', '--limit', '2')
  const workerLines = watchList(t, 'workers')
  const found = () => jobLines.map((line) => JSON.parse(line))
  await until(() => jobLines.length === 2 && workerLines.length === 2)
  const id = await enqueue('', 'webhook.deliver')
  await until(() => found().at(-1).id === id)
  await query('select accepted.cancel($1)', id)
  await until(() => found().at(-1).status === 'canceled')
  t.match(found().slice(2), [
    { id, status: 'queued' },
    { id, status: 'canceled' },
  ])
  const [worker] = await query(`update accepted.worker set status = 'draining' returning id`)
  await until(() => workerLines.at(-1)?.includes('draining'))
  await query('delete from accepted.worker')
  await until(() => workerLines.at(-1)?.endsWith('gone'))
  t.match(workerLines, [/^ID +WORKER +STATUS/, / box:7 +ready /, / box:7 +draining /, `${worker.id}  gone`])
})
