import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../../src/jobs/enqueue.ts'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const heavyJobs = 500
const lightPrincipals = 99

/** Runs a long backlog of one principal with one job of each other principal. Returns the principals in start order. */
async function run(t: Test, { workers, fair }: { workers: number; fair: boolean }): Promise<string[]> {
  const say = defineOperation({ name: 'word.say', input: Word, fair, retry: { limit: 1, delaySeconds: 0 } })
  const jobs = await openJobs(t, [say])
  const newJob = (principal: string) => ({ id: uuid7(), operation: say, payload: { word: 'x' }, principal })
  const heavy = Array.from({ length: heavyJobs }, () => newJob('heavy'))
  const light = Array.from({ length: lightPrincipals }, (_, number) => newJob(`light ${number}`))
  for (const added of [heavy, light]) {
    await jobs.database.kysely.transaction().execute((trx) => enqueue(jobs.boss, trx, added))
  }
  const started: string[] = []
  const handlers = handlersFor(say, {
    concurrency: 10,
    perform: async ({ principal, attempt }) => {
      if (attempt === 1) started.push(principal)
      else return
      await new Promise((resolve) => setImmediate(resolve))
      if (principal === 'light 7') throw new Error('broken')
    },
  })
  await Promise.all(Array.from({ length: workers }, () => jobs.work(handlers)))
  await until(
    async () => (await jobs.query("select from accepted.job where status <> 'succeeded' limit 1")).length === 0,
  )
  t.equal(started.length, heavyJobs + lightPrincipals)
  return started
}

/** Counts the jobs of the heavy principal that started before the last job of another principal. */
const heavyBeforeLastLight = (started: readonly string[]) =>
  started.slice(
    0,
    started.findLastIndex((principal) => principal !== 'heavy'),
  ).length -
  lightPrincipals +
  1

for (const workers of [1, 2]) {
  t.test(
    `with ${workers === 1 ? 'one worker' : 'two workers'}, one principal's backlog does not delay the jobs of others`,
    async (t) => {
      const count = heavyBeforeLastLight(await run(t, { workers, fair: true }))
      // Each worker begins with ten of the oldest jobs. Then it runs one job of the heavy principal per round, and a few
      // more of the oldest jobs whenever another worker has just locked what it wants to claim.
      t.ok(count <= heavyJobs / 4, `${count} of ${heavyJobs} jobs started first`)
    },
  )
}

t.test('without `fair`, the older jobs start first', async (t) => {
  const count = heavyBeforeLastLight(await run(t, { workers: 1, fair: false }))
  t.ok(count >= heavyJobs - 20, `${count} of ${heavyJobs} jobs started first`)
})
