import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t from 'tap'
import { createNotifier } from '../../../src/db/notifier.ts'
import { toMonitor } from '../../../src/jobs/monitor.ts'
import { siteAt } from '../../../src/jobs/site.ts'
import { serializeError } from '../../../src/primitives/redact.ts'
import type { Jobs } from '../../support/jobs.ts'
import * as operations from '../fixtures/isolate/operations.ts'
import * as support from '../support.ts'
import { act, hurry, isAlive, isolatedHandlers, open, perform, reported } from './support.ts'

// The tests mostly wait for children, so they run in parallel.
t.jobs = 3

/** Cancels a job and notifies its worker, as the API does. */
async function cancel(jobs: Jobs, id: string): Promise<void> {
  await support.cancel(jobs, id)
  const notifier = createNotifier(jobs.database)
  notifier.notify('cancel', [id])
  await notifier.flush()
}

const failures = (jobs: Jobs) => jobs.query('select attempt, error from accepted.attempt order by started_at')

for (const isolate of ['process', 'thread'] as const) {
  t.test(
    `a job in a ${isolate} gets the same values as in the worker, and the worker gets its log lines and resource`,
    async (t) => {
      const jobs = await open(t)
      const lines: string[] = []
      const log = pino({ serializers: { err: serializeError } }, { write: (line) => void lines.push(line) })
      await jobs.work(isolatedHandlers(isolate), { log })
      const id = await jobs.add(act, { act: 'report everything' })
      t.match(await jobs.ended(id), {
        ...{ status: 'succeeded', attempt: 1, resource: '/reported/1' },
        result: {
          ...{ id, operation: 'act', payload: { act: 'report everything' }, principal: 'ann' },
          ...{ attempt: 1, maxAttempts: 2, worker: (await jobs.read(id)).worker_id },
          ...{ idempotencyKey: id, isMainThread: isolate === 'process', at: '1970-01-01T00:00:00.000Z' },
        },
      })
      const logged = lines.map((line) => JSON.parse(line)).filter(({ job }) => job === id)
      t.match(logged, [
        { level: 30, operation: 'act', attempt: 1, word: 'x', msg: 'reported all' },
        { level: 40, part: 2, err: { type: 'TypeError', message: 'token=***', stack: /perform\.ts/ }, msg: 'warning' },
      ])
      t.match(logged[1].err.cause, { type: 'Error', message: 'deep' })
    },
  )

  t.test(`a job in a ${isolate} reads the jobs that it has waited for`, async (t) => {
    const jobs = await open(t)
    await jobs.work(isolatedHandlers(isolate))
    const first = await jobs.add(act, { act: 'return at once' })
    const id = await jobs.add(act, { act: 'read dependencies' }, { after: [first] })
    const { result } = await jobs.ended(id)
    t.match(result.own, [{ id: first, operation: 'act', principal: 'ann', status: 'succeeded', result: 'at once' }])
    t.same(result.other, [])
  })

  t.test(`a value thrown in a ${isolate} has the same effect as in the worker`, async (t) => {
    const jobs = await open(t)
    await jobs.work(isolatedHandlers(isolate, { concurrency: 1 }))
    const ended = async (name: string) => jobs.ended(await jobs.add(act, { act: name }))
    t.match(await ended('job failed'), {
      ...{ status: 'failed', attempt: 1 },
      error: { code: 'unfit', message: 'It cannot be encoded', status: 422, details: [{ at: '7' }] },
    })
    t.match(await ended('retry after'), { status: 'succeeded', attempt: 1, result: { attempt: 1, performed: 2 } })
    for (const [name, message] of [
      ['throw', 'the handler failed'],
      ['throw text', 'a text'],
      ['return a function', /could not be cloned/],
      ['report invalid progress', /101 is not between 0 and 100/],
    ] as const) {
      t.match(await ended(name), { status: 'failed', attempt: 2, error: { code: 'handler-error', message } }, name)
    }
  })

  t.test(`when a canceled job has ended, the next job runs in the same ${isolate}`, async (t) => {
    const jobs = await open(t)
    await jobs.work(isolatedHandlers(isolate, { concurrency: 1 }))
    const id = await jobs.add(act, { act: 'until canceled' })
    const where = await reported(jobs, id)
    t.match(await jobs.read(id), { status: 'running', percent: 50 })
    await cancel(jobs, id)
    t.match(await jobs.ended(id), { status: 'canceled' })
    const { result } = await jobs.ended(await jobs.add(act, { act: 'where' }))
    t.equal(`${result.pid} ${result.threadId}`, where)
  })

  for (const [name, how] of [
    ['exit', /exit code 3/],
    ['allocate', isolate === 'process' ? /SIGABRT/ : /memory/],
    ['throw late', isolate === 'process' ? /exit code 1/ : /later/],
    ...(isolate === 'process'
      ? ([
          ['abort', /SIGABRT/],
          ['be killed', /SIGKILL/],
        ] as const)
      : []),
  ] as const) {
    t.test(
      `when a ${isolate} ends (${name}), only its own attempt fails, and another ${isolate} replaces it`,
      async (t) => {
        const jobs = await open(t)
        const file = join(t.testdir(), 'go on')
        await jobs.work(isolatedHandlers(isolate))
        const neighbour = await jobs.add(act, { act: 'until there is a file', file })
        await reported(jobs, neighbour)
        const id = await jobs.add(act, { act: name })
        const end = await jobs.ended(id)
        if (name === 'throw late') {
          t.match(end, { status: 'failed', attempt: 2, error: { code: 'worker-crashed' } })
          t.notMatch(toMonitor(end, siteAt('')).error?.message, /worker/i, 'clients do not read that a worker crashed')
        } else t.match(end, { status: 'succeeded', attempt: 2, result: { attempt: 2 } })
        t.match((await failures(jobs))[0], { attempt: 1, error: { code: 'worker-crashed', message: how } })
        await writeFile(file, '')
        t.match(await jobs.ended(neighbour), { status: 'succeeded', attempt: 1, result: { attempt: 1 } })
      },
    )
  }

  t.test(
    `an endless loop in a ${isolate} fails only its own attempt, and is stopped before the next attempt`,
    async (t) => {
      const jobs = await open(t)
      await jobs.work(isolatedHandlers(isolate))
      const id = await jobs.add(hurry, { act: 'loop in the first attempt' })
      const pid = Number(await reported(jobs, id))
      const neighbour = await jobs.add(act, { act: 'where' })
      t.match(await jobs.ended(neighbour), { status: 'succeeded', attempt: 1 })
      t.match(await jobs.ended(id), { status: 'succeeded' })
      t.match((await failures(jobs))[0], { attempt: 1, error: { code: 'attempt-timeout' } })
      if (isolate === 'process') t.notOk(isAlive(pid))
    },
  )

  t.test(`a job that loops in a ${isolate} can be canceled`, async (t) => {
    const jobs = await open(t)
    await jobs.work(isolatedHandlers(isolate, { concurrency: 1 }))
    const id = await jobs.add(act, { act: 'loop' })
    const pid = Number(await reported(jobs, id))
    await cancel(jobs, id)
    t.match(await jobs.ended(id), { status: 'canceled' })
    if (isolate === 'process') t.notOk(isAlive(pid))
    t.match(await jobs.ended(await jobs.add(act, { act: 'where' })), { status: 'succeeded' })
  })

  t.test(`a stopping worker releases a job that loops in a ${isolate}, and ends all children`, async (t) => {
    const jobs = await open(t)
    const worker = await jobs.work(isolatedHandlers(isolate), { graceSeconds: 0 })
    const idle = await jobs.ended(await jobs.add(hurry, { act: 'where' }))
    const id = await jobs.add(act, { act: 'loop' })
    const pid = Number(await reported(jobs, id))
    await worker.stop()
    t.match(await jobs.read(id), { status: 'queued', ended_at: null })
    t.match(await jobs.query("select state::text, retry_count from accepted_queue.job where name = 'act'"), [
      { state: 'created', retry_count: 0 },
    ])
    t.same(await jobs.query('select from accepted.attempt where job_id = $1', [id]), [])
    if (isolate === 'process') t.same([pid, idle.result.pid].filter(isAlive), [])
  })

  t.test(`when an idle ${isolate} ends, no attempt fails`, async (t) => {
    const jobs = await open(t)
    await jobs.work(isolatedHandlers(isolate, { concurrency: 1 }))
    for (let count = 0; count < 3; count++) {
      t.match(await jobs.ended(await jobs.add(act, { act: 'exit afterwards' })), { status: 'succeeded', attempt: 1 })
    }
    t.same(await failures(jobs), [])
  })
}

t.test('a released job starts in another worker only after the child that performed it has ended', async (t) => {
  const jobs = await open(t)
  const worker = await jobs.work(isolatedHandlers('process'), { graceSeconds: 0 })
  const id = await jobs.add(act, { act: 'loop' })
  const pid = Number(await reported(jobs, id))
  await jobs.work(
    defineHandlers(operations, { act: { perform: async () => ({ met: isAlive(pid) }) }, hurry: { perform } }),
  )
  await worker.stop()
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1, result: { met: false } })
})

t.test('a worker with an invalid isolated handler does not start', async (t) => {
  const jobs = await open(t)
  const hurry = { perform }
  for (const [wrong, message] of [
    [{ perform: async () => {}, isolate: 'thread' }, /'act': isolate requires a module/],
    [{ settle: async () => [], isolate: 'process' }, /'act': isolate requires a module/],
    [{ perform: async () => {}, memoryLimit: 64 }, /'act': memoryLimit requires a module/],
    [{ perform: './perform.ts' }, /'act': perform must be a function or the URL of a module/],
    [{ perform, isolate: 'fork' }, /'act': isolate must be 'process' or 'thread', not fork/],
    [{ perform, memoryLimit: 1 }, /'act': memoryLimit must be an integer of at least 16, in MiB, not 1/],
    [{ perform: new URL('../none.ts', import.meta.url) }, /'act': there is no module file:.*none\.ts/],
    [{ perform: new URL('https://example.com/perform.js') }, /'act': there is no module https:/],
  ] as const) {
    // @ts-expect-error most of these handlers do not compile
    await t.rejects(jobs.work(defineHandlers(operations, { act: wrong, hurry })), { name: 'TypeError', message })
  }
})
