import t from 'tap'
import { LostClaim } from '../../../src/queue/errors.ts'
import { AttemptFailed, AttemptTimeout, JobCanceled, JobFailed, RetryAfter } from '../../../worker/errors.ts'
import { outcomeOf } from '../../../worker/execution/outcome.ts'
import type { PendingJob } from '../../../worker/execution/pending-jobs.ts'

const claim = {
  queued: { id: 'q', retryCount: 1 },
  ...{ jobId: 'j', payload: {}, attempt: 2, isQuarantined: false, waitedSeconds: 0 },
}

const row: PendingJob = {
  ...{ id: 'j', principal: 'ann', idempotency_key: null, traceparent: null, attempt: 2, max_attempts: 4 },
  ...{ attempt_started_at: null, cancel_requested: false, kept_seconds: 3600, transaction_id: '1' },
}

t.test('an error is retried by the policy of the operation, and the attempt counts', async (t) => {
  t.match(outcomeOf(new Error('no luck'), claim, row), {
    ...{ kind: 'retry', isCounted: true, delaySeconds: undefined },
    error: { code: 'handler-error', message: 'no luck' },
  })
  t.match(outcomeOf(new AttemptTimeout(60), claim, row), { kind: 'retry', error: { code: 'attempt-timeout' } })
})

t.test('an error that names a delay is retried after that delay', async (t) => {
  t.match(outcomeOf(new AttemptFailed('busy', 'Busy', 30), claim, row), {
    ...{ kind: 'retry', isCounted: true, delaySeconds: 30 },
    error: { code: 'busy' },
  })
})

t.test('the error of the last attempt fails the job', async (t) => {
  t.match(outcomeOf(new Error('no luck'), { ...claim, attempt: 4 }, row), { kind: 'failed' })
})

t.test('JobFailed fails the job, whatever attempts are left', async (t) => {
  t.match(outcomeOf(new JobFailed('declined', 'The card was declined'), claim, row), {
    ...{ kind: 'failed', error: { code: 'declined' } },
  })
})

t.test('RetryAfter does not count, unless the record would expire before', async (t) => {
  t.same(outcomeOf(new RetryAfter(60), claim, row), { kind: 'retry', isCounted: false, delaySeconds: 60 })
  t.match(outcomeOf(new RetryAfter(7200), claim, row), { kind: 'retry', isCounted: true })
})

t.test('a job that is to be canceled, or has ended, is canceled whatever its handler threw', async (t) => {
  t.same(outcomeOf(new JobCanceled(), claim, { ...row, cancel_requested: true }), { kind: 'canceled' })
  t.same(outcomeOf(new JobFailed('a', 'b'), claim, { ...row, cancel_requested: true }), { kind: 'canceled' })
  t.same(outcomeOf(new Error('no luck'), claim, undefined), { kind: 'canceled' })
})

t.test('nothing is recorded of an attempt that has lost its claim', async (t) => {
  t.same(outcomeOf(new LostClaim('gone'), claim, row), { kind: 'lost' })
})
