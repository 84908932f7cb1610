import t from 'tap'
import { sqlstate } from '../../src/db/sqlstate.ts'
import { type RetryReason, withTransactionRetry } from '../../src/db/transaction-retry.ts'

const contention = () => Object.assign(new Error('lost a race'), { code: sqlstate.serializationFailure })

/** Creates work whose first `times` runs fail. Records the reason of each retry. */
function failing(times: number, error: () => Error) {
  const reasons: RetryReason[] = []
  let runs = 0
  return {
    reasons,
    onRetry: (reason: RetryReason) => void reasons.push(reason),
    runs: () => runs,
    work: async () => {
      runs += 1
      if (runs <= times) throw error()
      return runs
    },
  }
}

t.test('work is retried up to the limit for the reason of its failure', async (t) => {
  const { work, reasons, onRetry } = failing(2, contention)
  t.equal(await withTransactionRetry(work, { maxRetries: { contention: 2 }, baseDelayMs: 1, onRetry }), 3)
  t.same(reasons, ['contention', 'contention'])
})

t.test(
  'the error is thrown when the retry limit is reached, or when the policy has no limit for this kind of error',
  async (t) => {
    const often = failing(3, contention)
    await t.rejects(withTransactionRetry(often.work, { maxRetries: { contention: 2 }, baseDelayMs: 1 }), contention())
    t.equal(often.runs(), 3)
    const once = failing(1, contention)
    await t.rejects(withTransactionRetry(once.work, { maxRetries: { outage: 5 } }), contention())
    t.equal(once.runs(), 1)
  },
)

t.test('an error without a reason to retry is thrown at once', async (t) => {
  const { work, runs } = failing(1, () => new Error('a bug'))
  await t.rejects(withTransactionRetry(work, { maxRetries: { contention: 9, outage: 9 } }), new Error('a bug'))
  t.equal(runs(), 1)
})

t.test('an error that the policy excludes is thrown at once', async (t) => {
  const { work, runs } = failing(1, contention)
  await t.rejects(withTransactionRetry(work, { maxRetries: { contention: 9 }, isRetryable: () => false }), contention())
  t.equal(runs(), 1)
})

t.test('after the signal has aborted, the work runs at most once more', async (t) => {
  const controller = new AbortController()
  const { work, runs } = failing(9, contention)
  const policy = { maxRetries: { contention: 9 }, baseDelayMs: 60_000, maxDelayMs: 60_000, signal: controller.signal }
  const retrying = withTransactionRetry(work, { ...policy, onRetry: () => controller.abort() })
  await t.rejects(retrying, contention())
  t.equal(runs(), 2)
})
