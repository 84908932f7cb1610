import { availableParallelism } from 'node:os'
import t, { type Test } from 'tap'
import { parseProcesses } from '../../src/cli/processes/count.ts'
import { config, createFixtureDatabase, type FixtureDatabase } from '../flow/fixtures/database.ts'
import { post } from '../support/client.ts'
import { run } from '../support/command.ts'
import { type Program, type ProgramOptions, start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { readSeries } from '../worker/support.ts'

// The tests mostly wait for processes.
t.jobs = 2

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** The lines of the log, without the lines of fixtures. */
const logOf = (program: Program) =>
  program
    .output()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))

/** Starts a command in two processes, and waits until both are ready. */
async function startTwo(t: Test, command: 'api' | 'worker', options: Partial<ProgramOptions> & FixtureDatabase) {
  const { env, ...rest } = options
  const args = ['--processes', '2']
  const program = await start(t, command, { config, args, ...rest, env: { LOG_LEVEL: 'info', ...env } })
  const [first, second] = await until(() => logOf(program).find(({ processes }) => processes)?.processes)
  t.teardown(() => {
    for (const pid of [first, second]) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
  })
  return { program, pids: [first, second] as [number, number] }
}

/** Undefined if the request reaches a process that is killed before it answers. */
const readMetric = async ({ url }: Program, series: string): Promise<number | undefined> => {
  const answer = await fetch(`${url}/metrics`, { headers: { connection: 'close' } }).catch(() => undefined)
  return answer && readSeries(await answer.text(), series)
}

/** Posts a note over a connection of its own, again until it is accepted. */
async function postUntilAccepted({ url }: Program, path: string, key: string): Promise<void> {
  const headers = { 'idempotency-key': key, connection: 'close' }
  await until(async () => (await post(url + path, { text: key }, headers).catch(() => undefined))?.status === 202)
}

const postAll = (program: Program, path: string, prefix: string, count: number) =>
  Promise.all(Array.from({ length: count }, (_, index) => postUntilAccepted(program, path, `${prefix} ${index}`)))

const countJobs = async ({ database }: FixtureDatabase, condition = 'true'): Promise<number> =>
  (await database.pool.query(`select count(*)::int as count from accepted.job where ${condition}`)).rows[0].count

const acceptedSeries = 'accepted_requests_total{operation="note.create",outcome="accepted"}'

t.test('an API in two processes serves one port, and replaces a process that is killed or hangs', async (t) => {
  const fixture = await createFixtureDatabase(t)
  const { program, pids } = await startTwo(t, 'api', fixture)
  await postAll(program, '/notes', 'before', 20)
  const served = logOf(program).filter(({ req }) => req?.url === '/notes')
  t.same(new Set(served.map(({ pid }) => pid)), new Set(pids), 'requests reach both processes')
  for (const _ of pids) t.equal(await readMetric(program, acceptedSeries), 20, 'each process answers with the sum')
  t.equal(await readMetric(program, 'accepted_processes_ready'), 2)

  const posting = postAll(program, '/notes', 'during', 20)
  process.kill(pids[0], 'SIGKILL')
  await posting
  t.equal(await countJobs(fixture), 40, 'every accepted request has its job')
  const [ended] = await until(() => {
    const lines = logOf(program).filter(({ msg }) => /ended/.test(msg))
    return lines.length > 0 && lines
  })
  t.match(ended, { level: 50, process: pids[0], msg: 'API process ended (SIGKILL); a new one starts in 0.2 s' })
  await until(async () => (await readMetric(program, 'accepted_process_restarts_total')) === 1)
  await until(async () => (await readMetric(program, 'accepted_processes_ready')) === 2)
  const sum = (await readMetric(program, acceptedSeries)) as number
  t.ok(sum >= 20 && sum <= 40, 'the sum has not decreased')

  process.kill(pids[1], 'SIGSTOP')
  await until(() => logOf(program).some(({ msg }) => msg === 'API process has not answered for 30 s; killing it'))
  await until(async () => (await readMetric(program, 'accepted_process_restarts_total')) === 2)
  await until(async () => (await readMetric(program, 'accepted_processes_ready')) === 2)
  t.notOk(pids.some(isRunning))

  const started = logOf(program).flatMap(({ msg, pid }) => (/^Server listening/.test(msg) ? [pid] : []))
  t.equal(await program.end('SIGTERM'), 0)
  t.equal(new Set(started).size, 4)
  t.notOk(started.some(isRunning), 'no process is left')
})

t.test(
  'workers in two processes lose nothing when one is killed; one that hangs is killed after SIGTERM',
  async (t) => {
    const fixture = await createFixtureDatabase(t)
    const { program, pids } = await startTwo(t, 'worker', { ...fixture, env: { GRACE_SECONDS: '0' } })
    const { rows } = await fixture.database.pool.query('select pid from accepted.worker')
    t.same(new Set(rows.map(({ pid }) => pid)), new Set(pids), 'both are registered')
    const enqueue = (text: string, count: number) =>
      fixture.database.pool.query(
        "select accepted.enqueue('note.perform', jsonb_build_object('text', $1::text)) from generate_series(1, $2)",
        [text, count],
      )
    const hasSucceeded = (count: number) => async () => (await countJobs(fixture, "status = 'succeeded'")) === count
    await enqueue('short', 40)
    await until(hasSucceeded(40))
    const series = 'accepted_attempts_total{operation="note.perform",outcome="succeeded"}'
    t.equal(await readMetric(program, series), 40, 'the sum over both processes')

    await enqueue('wait', 4)
    const busy: number = await until(async () => {
      const holder =
        "select pid from accepted.job join accepted.worker on worker.id = worker_id where job.status = 'running'"
      return (await fixture.database.pool.query(holder)).rows[0]?.pid
    })
    process.kill(busy, 'SIGKILL')
    await until(() => logOf(program).some(({ msg }) => /^Worker process ended \(SIGKILL\); a new one/.test(msg)))
    t.equal((await fetch(`${program.url}/health/ready`)).status, 200, 'the other process works')
    await until(hasSucceeded(44))
    const { rows: effects } = await fixture.database.pool.query('select count(*)::int as count from effect')
    t.equal(effects[0].count, 44)
    await until(async () => (await readMetric(program, 'accepted_processes_ready')) === 2)
    t.ok(((await readMetric(program, series)) as number) >= 40, 'the sum has not decreased')

    const [left] = pids.filter((pid) => pid !== busy) as [number]
    process.kill(left, 'SIGSTOP')
    const ending = program.end('SIGTERM')
    await until(async () => /draining/.test(await (await fetch(`${program.url}/health/ready`)).text()))
    t.equal(await ending, 1, 'the exit code says that a process was killed')
    t.match(logOf(program).at(-1), { msg: 'Worker processes did not stop within 6 s; killing them', processes: [left] })
    t.notOk(isRunning(left), 'no process is left')
  },
)

t.test('when the primary process is killed, the others stop as after SIGTERM', async (t) => {
  const { program, pids } = await startTwo(t, 'api', await createFixtureDatabase(t))
  await program.end('SIGKILL')
  await until(() => !pids.some(isRunning))
  const stopped = logOf(program).filter(({ msg }) => msg === 'API has stopped')
  t.same(new Set(stopped.map(({ pid }) => pid)), new Set(pids))
})

t.test('an error in the setup is printed once, and ends the command', async (t) => {
  const env = { DATABASE_URL: 'postgres://ann@127.0.0.1:1/none' }
  const { code, err } = await run(['api', '--processes', '3', '--config', '/none.ts'], env)
  t.equal(code, 1)
  t.match(err.split('\n'), [
    /^error: .*\/none\.ts/,
    'error: A process of --processes could not start (exit code 1). Its error is above.',
    '',
  ])
})

t.test('the number of processes is from 1 to 64, or that of the processors', async (t) => {
  t.same(['1', '64', undefined].map(parseProcesses), [1, 64, 1])
  t.equal(parseProcesses('auto'), Math.min(availableParallelism(), 64))
  for (const text of ['0', '65', '-1', '1.5', '', 'two', '1e1']) {
    t.throws(() => parseProcesses(text), {
      name: 'ConfigError',
      message: new RegExp(`from 1 to 64, or auto.*'${text}'`),
    })
  }
  const { code, err } = await run(['api', '--processes', '2', '--with-worker'])
  t.equal(code, 1)
  t.match(err, /cannot be used with option '--processes <n>'/)
})
