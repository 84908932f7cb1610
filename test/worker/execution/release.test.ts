import { defineOperation } from 'accepted'
import t from 'tap'
import { releaseClaims } from '../../../worker/execution/release.ts'
import { beginTransaction } from '../../support/database.ts'
import { openJobs } from '../../support/jobs.ts'
import { createOperationWorker } from '../../support/operation-worker.ts'
import { Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

t.test('all claims are released together, except lost claims and claims of ended or settling jobs', async (t) => {
  const jobs = await openJobs(t, [say])
  for (let count = 0; count < 200; count++) await jobs.add(say, { word: 'x' })
  const worker = createOperationWorker(t, jobs, say)
  const claimed = await worker.claims.claim(200)
  const [ended, lost, settling] = claimed.map(({ jobId }) => jobId)
  await jobs.query("update accepted.job set status = 'running'")
  await jobs.query("update accepted.job set status = 'succeeded', ended_at = now() where id = $1", [ended])
  await jobs.query('delete from accepted_queue.job where id = $1', [ended])
  await jobs.query('update accepted_queue.job set retry_count = 1 where id = $1', [lost])
  await beginTransaction(t, jobs.database, `select from accepted.job where id = '${settling}' for update`)
  let transactionCount = 0
  jobs.database.pool.on('acquire', () => {
    transactionCount += 1
  })
  await releaseClaims(worker, claimed)
  t.ok(transactionCount <= 6, `${transactionCount} transactions: only the release of the locked job is tried again`)
  t.match(
    await jobs.query("select state::text, retry_count from accepted_queue.job where state <> 'created' order by id"),
    [
      { state: 'active', retry_count: 1 },
      { state: 'active', retry_count: 0 },
    ],
  )
  t.same(await jobs.query("select count(*)::integer from accepted.job where status = 'queued'"), [{ count: 197 }])
})
