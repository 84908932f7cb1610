import t from 'tap'
import { markPostgresError } from '../../../src/db/postgres-error.ts'
import { AttemptFailed, AttemptTimeout, JobCanceled, JobFailed, RetryAfter } from '../../../worker/errors.ts'
import { type AttemptOutcome, outcomeOf } from '../../../worker/execution/outcome.ts'
import type { PendingJob } from '../../../worker/execution/pending-jobs.ts'

const claim = {
  queued: { id: 'q', retryCount: 1 },
  ...{ jobId: 'j', payload: {}, attempt: 2, isQuarantined: false, waitedSeconds: 0 },
}

const row: PendingJob = {
  ...{
    id: 'j',
    principal: 'ann',
    idempotency_key: null,
    traceparent: null,
    tracestate: null,
    attempt: 2,
    max_attempts: 4,
  },
  ...{
    attempt_started_at: null,
    worker_id: null,
    cancel_requested: false,
    batch: null,
    kept_seconds: 3600,
    transaction_id: '1',
  },
}

const outcomeOfError = (error: unknown, attempt = claim, locked: PendingJob | undefined = row): AttemptOutcome =>
  outcomeOf({ claim: attempt, error }, locked, false)

t.test('after an error, the job is retried by the policy of its operation, and the attempt counts', async (t) => {
  t.match(outcomeOfError(new Error('no luck')), {
    ...{ kind: 'retry', isCounted: true, delaySeconds: undefined },
    error: { code: 'handler-error', message: 'no luck' },
  })
  t.match(outcomeOfError(new AttemptTimeout(60)), { kind: 'retry', error: { code: 'attempt-timeout' } })
})

t.test('after an error with a delay, the job is retried after that delay', async (t) => {
  t.match(outcomeOfError(new AttemptFailed('busy', 'Busy', 30)), {
    ...{ kind: 'retry', isCounted: true, delaySeconds: 30 },
    error: { code: 'busy' },
  })
})

t.test('an error in the last attempt fails the job', async (t) => {
  t.match(outcomeOfError(new Error('no luck'), { ...claim, attempt: 4 }), { kind: 'failed' })
})

t.test('JobFailed fails the job, even if attempts are left', async (t) => {
  t.match(outcomeOfError(new JobFailed('declined', 'The card was declined')), {
    ...{ kind: 'failed', error: { code: 'declined' } },
  })
})

t.test('RetryAfter does not count as an attempt, unless the job would expire before the next attempt', async (t) => {
  t.match(outcomeOfError(new RetryAfter(60)), { kind: 'retry', isCounted: false, delaySeconds: 60 })
  t.match(outcomeOfError(new RetryAfter(7200)), { kind: 'retry', isCounted: true })
})

t.test('an outage of Postgres does not count as an attempt', async (t) => {
  const shutdown = markPostgresError(Object.assign(new Error('terminating connection'), { code: '57P01' }))
  t.match(outcomeOfError(shutdown), { kind: 'retry', isCounted: false, delaySeconds: 5 })
})

t.test('a job with a cancel request is canceled, whether its attempt threw or not', async (t) => {
  const canceled = { ...row, cancel_requested: true }
  t.same(outcomeOfError(new JobCanceled(), claim, canceled), { kind: 'canceled' })
  t.same(outcomeOfError(new JobFailed('a', 'b'), claim, canceled), { kind: 'canceled' })
  t.same(outcomeOf({ claim }, canceled, false), { kind: 'canceled' })
  t.same(outcomeOf({ claim, isUnperformed: true }, canceled, false), { kind: 'canceled' })
})

t.test('a job that has ended stays unchanged, whether its attempt threw or not', async (t) => {
  t.same(outcomeOf({ claim, error: new Error('no luck') }, undefined, false), { kind: 'ended' })
  t.same(outcomeOf({ claim }, undefined, false), { kind: 'ended' })
})

t.test('a job completes if its attempt was performed, or if it is a duplicate that was not performed', async (t) => {
  t.same(outcomeOf({ claim, result: 1 }, row, false), { kind: 'completed' })
  t.same(outcomeOf({ claim, isUnperformed: true }, row, true), { kind: 'completed' })
})

t.test(
  'an attempt that was not performed is lost if its job is still pending: another worker has begun the job',
  async (t) => {
    t.same(outcomeOf({ claim, isUnperformed: true }, row, false), { kind: 'lost' })
  },
)
