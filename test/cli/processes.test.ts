import { availableParallelism } from 'node:os'
import t from 'tap'
import { parseProcesses } from '../../src/cli/processes/count.ts'
import { createFixtureDatabase } from '../flow/fixtures/database.ts'
import { run } from '../support/command.ts'
import { run as runInProcess } from '../support/in-process.ts'
import { until } from '../support/until.ts'
import {
  acceptedSeries,
  countJobs,
  enqueueNotes,
  isRunning,
  logOf,
  performedSeries,
  postAll,
  readMetric,
  startTwo,
} from './two-processes.ts'

// The tests mostly wait for processes.
t.jobs = 2

t.test(
  'an API in two processes serves one port, replaces a process that is killed, and does not outlive its primary process',
  async (t) => {
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

    await program.end('SIGKILL')
    const started = logOf(program).flatMap(({ msg, pid }) => (/^Server listening/.test(msg) ? [pid] : []))
    t.equal(new Set(started).size, 3)
    await until(() => !started.some(isRunning))
    const stopped = logOf(program).filter(({ msg }) => msg === 'API has stopped')
    t.equal(stopped.length, 2, 'after the primary process was killed, the others stop as after SIGTERM')
  },
)

t.test(
  'workers in two processes share the jobs, replace a process that is killed, and stop after SIGTERM',
  async (t) => {
    const fixture = await createFixtureDatabase(t)
    const { program, pids } = await startTwo(t, 'worker', fixture)
    const { rows } = await fixture.database.pool.query('select pid from accepted.worker')
    t.same(new Set(rows.map(({ pid }) => pid)), new Set(pids), 'both are registered')
    await enqueueNotes(fixture, 'short', 40)
    await until(async () => (await countJobs(fixture, "status = 'succeeded'")) === 40)
    // The sum over both processes. A process counts a job after its commit.
    t.ok(await until(async () => (await readMetric(program, performedSeries)) === 40))

    process.kill(pids[0], 'SIGKILL')
    await until(() => logOf(program).some(({ msg }) => /^Worker process ended \(SIGKILL\); a new one/.test(msg)))
    t.equal((await fetch(`${program.url}/health/ready`)).status, 200, 'the other process works')
    await enqueueNotes(fixture, 'short', 4)
    await until(async () => (await countJobs(fixture, "status = 'succeeded'")) === 44)
    await until(async () => (await readMetric(program, 'accepted_processes_ready')) === 2)
    t.ok(((await readMetric(program, performedSeries)) as number) >= 40, 'the sum has not decreased')
    t.equal(await program.end('SIGTERM'), 0)
    t.notOk(pids.some(isRunning), 'no process is left')
  },
)

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
  const { code, err } = await runInProcess(['api', '--processes', '2', '--with-worker'])
  t.equal(code, 1)
  t.match(err, /cannot be used with option '--processes <n>'/)
})
