import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import { pollDueWork } from '../../../worker/maintenance/poll.ts'
import { registerRescues, rescueOrphaned } from '../../../worker/maintenance/rescuer.ts'
import { openJobs } from '../../support/jobs.ts'
import { createOperationWorker } from '../../support/operation-worker.ts'
import { Word } from '../support.ts'
import { claimAndDie, often, once } from './support.ts'

const limited = defineOperation({ name: 'word.limited', input: Word, limit: { key: () => 'a', concurrency: 1 } })
const operations = [once, often, limited]

async function setUp(t: Test) {
  const jobs = await openJobs(t, operations)
  await registerRescues(
    jobs.database,
    operations.map(({ name }) => name),
  )
  const poll = (some = operations, rescues = true, busy: string[] = []) =>
    pollDueWork(jobs.database, some, [], { rescues, busy })
  const searchedAt = async () => {
    const [row] = await jobs.query(`select checked_at from accepted.rescue where operation = 'word.once'`)
    return row?.checked_at
  }
  return { jobs, poll, searchedAt }
}

t.test('a poll of an idle worker finds nothing', async (t) => {
  const { jobs, poll } = await setUp(t)
  await jobs.query('update accepted.reconciliation set compared_at = now()')
  t.same(await poll(), {
    operations: [],
    ...{ hasSchedules: false, hasQuarantined: false, hasOrphans: false, isReconcileDue: false },
    ...{ hasEndings: false, hasParents: false, hasDependencies: false },
  })
})

t.test('a poll finds the operations with a due job that are not paused', async (t) => {
  const { jobs, poll } = await setUp(t)
  const first = await jobs.add(once, { word: 'a' })
  await jobs.add(often, { word: 'a' }, { runAt: new Date(Date.now() + 3_600_000) })
  await jobs.add(limited, { word: 'a' })
  const due = async () => (await poll()).operations.sort()
  t.same(await due(), ['word.limited', 'word.once'])
  t.same((await poll([once])).operations, ['word.once'], 'only operations of the worker')
  t.same((await poll(operations, true, ['word.once'])).operations, ['word.limited'])
  t.same((await poll(operations, true, ['word.limited'])).operations, ['word.once'])
  await jobs.query(`select accepted.pause('word.once'), accepted.pause('word.limited')`)
  t.same(await due(), [])
  await jobs.query(`select accepted.resume('word.once')`)
  t.same(await due(), ['word.once'])
  await jobs.add(often, { word: 'b' }, { after: [first] })
  t.match(await poll(), { operations: ['word.once'], hasDependencies: true }, 'a job that waits for another is not due')
})

t.test(
  'the first poll in three seconds looks for orphaned jobs, and all polls find them until they are rescued',
  async (t) => {
    const { jobs, poll, searchedAt } = await setUp(t)
    await jobs.query("update accepted.rescue set checked_at = '-infinity'")
    t.equal((await poll()).hasOrphans, false)
    t.type(await searchedAt(), Date, 'the poll has looked')
    await jobs.add(once, { word: 'a' })
    await claimAndDie(jobs, once, 1)
    await jobs.query("update accepted.rescue set checked_at = 'infinity'")
    t.equal((await poll()).hasOrphans, false, 'another worker has just looked')
    await jobs.query("update accepted.rescue set checked_at = '-infinity'")
    t.equal((await poll()).hasOrphans, true)
    t.equal((await poll([often])).hasOrphans, false)
    t.equal((await poll(operations, false)).hasOrphans, false, 'a worker that does not rescue does not look')
    t.equal((await poll()).hasOrphans, true)
    await rescueOrphaned(jobs.database, [createOperationWorker(t, jobs, once)])
    t.match(await poll(), { hasOrphans: false, hasQuarantined: true })
  },
)

t.test('a job whose heartbeat is not overdue for its operation is no orphan', async (t) => {
  const { jobs, poll } = await setUp(t)
  await jobs.add(once, { word: 'a' })
  await claimAndDie(jobs, once, 1)
  await jobs.query("update accepted.rescue set checked_at = '-infinity'")
  t.equal((await poll([{ ...once, heartbeatSeconds: 3600 }])).hasOrphans, false)
  await jobs.query("update accepted.rescue set checked_at = '-infinity'")
  t.equal((await poll([once])).hasOrphans, true)
})
