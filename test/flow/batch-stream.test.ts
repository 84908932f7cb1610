import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../src/db/notifier.ts'
import { openStream } from '../conformance/event-stream.ts'
import { serve } from '../support/api.ts'
import { post } from '../support/client.ts'
import { openJobs } from '../support/jobs.ts'

const operation = defineOperation({
  name: 'word.say',
  route: { method: 'POST', url: '/words' },
  input: Type.Object({ word: Type.String() }),
})
const operations = { operation }

t.test('the stream of a batch sends at most 4 events a second, and its percent never goes back', async (t) => {
  const api = await serve(t, { operations })
  const jobs = await openJobs(t, [operation], api.database.options.url)
  const items = Array.from({ length: 600 }, (_, index) => ({ operation: 'word.say', input: { word: `${index}` } }))
  const { body: batch } = await post(`${api.url}/batches`, { items })
  const startedAt = performance.now()
  const stream = await openStream(t, batch.links.events)
  const perform = () => new Promise<void>((resolve) => setImmediate(resolve))
  await jobs.work(defineHandlers(operations, { 'word.say': { perform, concurrency: 2 } }))
  // Reports the progress much more often than workers do.
  const notifier = createNotifier(api.database)
  t.teardown(() => notifier.flush())
  while (!stream.isEnded()) {
    await jobs.query("update accepted.reconciliation set children_due_at = '-infinity'")
    const reported = await jobs.query('select accepted.report_children() as id')
    notifier.notify(
      'status',
      reported.map(({ id }) => id),
    )
  }
  const seconds = (performance.now() - startedAt) / 1000
  const events = stream.events()
  t.ok(events.length <= 4 * seconds + 2, `${events.length} events in ${seconds} s`)
  t.ok(events.length > 2, 'the stream shows the progress')
  t.match(events.at(-1), { event: 'status', data: { status: 'succeeded', percentComplete: 100 } })
  const percents = events.map(({ data }) => data.percentComplete)
  t.same(
    percents,
    percents.toSorted((a, b) => a - b),
  )
})
