import { defineOperation } from 'accepted'
import { pino } from 'pino'
import t from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../../src/db/notifier.ts'
import { createProgressWriter } from '../../../worker/execution/progress.ts'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'

const operation = defineOperation({ name: 'report.write', input: Type.Object({}) })

t.test('a report of an earlier attempt does not reach the current one', async (t) => {
  const { database, query, add, read } = await openJobs(t, [operation])
  const progress = createProgressWriter(database, createNotifier(database), pino({ level: 'silent' }))
  t.teardown(() => progress.close())
  const [retried, other] = [await add(operation, {}), await add(operation, {})]
  await query("update accepted.job set status = 'running', attempt = 2, percent = 10, attempt_started_at = now()")
  progress.report({ id: retried, attempt: 1 }, 77, 'the first attempt')
  progress.report({ id: other, attempt: 2 }, 20, 'the second attempt')
  await until(async () => (await read(other)).percent === 20)
  t.match(await read(retried), { percent: 10, message: null, progress_at: null })
})

t.test('progress below that of an earlier attempt sets no progress_at, and a long message is cut', async (t) => {
  const { database, query, add, read } = await openJobs(t, [operation])
  const progress = createProgressWriter(database, createNotifier(database), pino({ level: 'silent' }))
  t.teardown(() => progress.close())
  const id = await add(operation, {})
  await query("update accepted.job set status = 'running', attempt = 2, percent = 90, attempt_started_at = now()")
  progress.report({ id, attempt: 2 }, 10, 'x'.repeat(3_000_000))
  await until(async () => (await read(id)).message)
  t.match(await read(id), { percent: 90, message: 'x'.repeat(500), progress_at: null })
  progress.report({ id, attempt: 2 }, 95)
  await until(async () => (await read(id)).percent === 95)
  t.ok((await read(id)).progress_at)
})
