import t from 'tap'
import { createEventEncoder } from '../../../src/http/streams/encoder.ts'
import { SentVersionPool } from '../../../src/http/streams/sent-version.ts'
import type { Estimates } from '../../../src/jobs/estimate.ts'
import type { Job } from '../../../src/jobs/job.ts'
import { noSeals } from '../../../src/jobs/seals.ts'
import { createShownResults } from '../../../src/jobs/shown-results.ts'
import { siteAt } from '../../../src/jobs/site.ts'

const at = new Date('2026-01-02T03:04:05.678Z')
const running: Job = {
  ...{ id: '019b7d2e-0000-7000-8000-000000000000', operation: 'todo.create', status: 'running', principal: 'ann' },
  ...{ resource: null, percent: 10, message: null, attempt: 1, max_attempts: 4, sequence: '2', result: null },
  ...{
    error: null,
    coalesced: 0,
    cancel_requested: false,
    retry_of: null,
    parent: null,
    children: null,
    waiting_for: null,
    created_at: at,
    started_at: at,
  },
  ...{ updated_at: at, ended_at: null, expires_at: at, progress_at: at, progress_base: null, attempt_started_at: at },
}

t.test('an event has only the progress if nothing else has changed since the last event', async (t) => {
  const encoder = createEventEncoder(
    { of: () => undefined } as unknown as Estimates,
    createShownResults(new Map(), noSeals),
  )
  const lastSent = new SentVersionPool().versionOf(running)
  const encode = (change: Partial<Job>) =>
    encoder.encodeSse({ ...running, sequence: '3', ...change }, lastSent, {
      site: siteAt('http://x'),
      viewer: 'ann',
      id: '3',
    })
  t.match(encode({ percent: 20 }), /^event: progress\n.*\ndata: {"percentComplete":20,"sequence":3}\n/)
  t.match(encode({ coalesced: 1 }), /^event: status\n.*\ndata: {"id":.*"coalesced":1/)
  t.match(encode({ cancel_requested: true }), /^event: status\n/)
})
