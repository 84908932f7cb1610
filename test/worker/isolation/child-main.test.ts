import { join } from 'node:path'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import { start } from '../../support/program.ts'
import { until } from '../../support/until.ts'
import * as operations from '../fixtures/isolate/operations.ts'
import { act, hurry, isAlive, isolatedHandlers, open, perform, reported } from './support.ts'

const config = join(import.meta.dirname, '../fixtures/isolate/accepted.config.ts')

// The tests mostly wait for children, so they run in parallel.
t.jobs = 3

t.test(
  'a child process ignores SIGINT and SIGTERM, because its whole process group may get these signals',
  async (t) => {
    const jobs = await open(t)
    await jobs.work(isolatedHandlers('process', { concurrency: 1 }))
    const { result, attempt } = await jobs.ended(await jobs.add(act, { act: 'receive signals' }))
    t.equal(attempt, 1)
    t.match(await jobs.ended(await jobs.add(act, { act: 'where' })), { result: { pid: result.pid } })
  },
)

t.test('when a worker is killed, its child processes end, even a child that loops', async (t) => {
  const jobs = await open(t)
  const worker = await start(t, 'worker', { config, databaseUrl: `${jobs.database.pool.options.connectionString}` })
  const idle = await jobs.ended(await jobs.add(hurry, { act: 'where' }))
  const pid = Number(await reported(jobs, await jobs.add(act, { act: 'loop' })))
  t.same([pid, idle.result.pid].map(isAlive), [true, true])
  await worker.end('SIGKILL')
  await until(() => !isAlive(pid) && !isAlive(idle.result.pid))
})

t.test('the jobs of a module without a default export fail with an error that names the module', async (t) => {
  const jobs = await open(t)
  const module = new URL('../fixtures/isolate/without-default.ts', import.meta.url)
  await jobs.work(defineHandlers(operations, { act: { perform: module }, hurry: { perform } }))
  t.match(await jobs.ended(await jobs.add(act, { act: 'report everything' })), {
    ...{ status: 'failed', attempt: 2 },
    error: { code: 'handler-error', message: /without-default\.ts must export a perform function as its default/ },
  })
})
