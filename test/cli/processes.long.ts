import t from 'tap'
import { createFixtureDatabase } from '../flow/fixtures/database.ts'
import { until } from '../support/until.ts'
import { countJobs, enqueueNotes, isRunning, logOf, readMetric, startTwo } from './two-processes.ts'

t.jobs = 2

t.test('an API process that hangs is killed and replaced', async (t) => {
  const { program, pids } = await startTwo(t, 'api', await createFixtureDatabase(t))
  process.kill(pids[1], 'SIGSTOP')
  await until(() => logOf(program).some(({ msg }) => msg === 'API process has not answered for 30 s; killing it'))
  await until(async () => (await readMetric(program, 'accepted_process_restarts_total')) === 1)
  await until(async () => (await readMetric(program, 'accepted_processes_ready')) === 2)
  t.notOk(isRunning(pids[1]))
  t.equal(await program.end('SIGTERM'), 0)
  t.notOk(pids.some(isRunning), 'no process is left')
})

t.test('jobs of a worker process that is killed run once; one that hangs is killed after SIGTERM', async (t) => {
  const fixture = await createFixtureDatabase(t)
  const { program, pids } = await startTwo(t, 'worker', { ...fixture, env: { GRACE_SECONDS: '0' } })
  await enqueueNotes(fixture, 'wait', 4)
  const busy: number = await until(async () => {
    const holder =
      "select pid from accepted.job join accepted.worker on worker.id = worker_id where job.status = 'running'"
    return (await fixture.database.pool.query(holder)).rows[0]?.pid
  })
  process.kill(busy, 'SIGKILL')
  await until(async () => (await countJobs(fixture, "status = 'succeeded'")) === 4)
  const { rows: effects } = await fixture.database.pool.query('select count(*)::int as count from effect')
  t.equal(effects[0].count, 4)
  await until(async () => (await readMetric(program, 'accepted_processes_ready')) === 2)

  const [left] = pids.filter((pid) => pid !== busy) as [number]
  process.kill(left, 'SIGSTOP')
  const ending = program.end('SIGTERM')
  await until(async () => /draining/.test(await (await fetch(`${program.url}/health/ready`)).text()))
  t.equal(await ending, 1, 'the exit code says that a process was killed')
  t.match(logOf(program).at(-1), { msg: 'Worker processes did not stop within 6 s; killing them', processes: [left] })
  t.notOk(isRunning(left), 'no process is left')
})
