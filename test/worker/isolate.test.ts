import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { createNotifier } from '../../src/db/notifier.ts'
import { cancelJob } from '../../src/jobs/cancel.ts'
import { serializeError } from '../../src/redact.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'
import * as operations from './fixtures/isolate/operations.ts'

const { act, hurry } = operations
const perform = new URL('./fixtures/isolate/perform.ts', import.meta.url)
const config = join(import.meta.dirname, 'fixtures/isolate/accepted.config.ts')

// Most of the time is spent waiting for children.
t.jobs = 3

type Isolate = 'process' | 'thread'

const handlersFor = (isolate: Isolate, { concurrency = 2, memoryLimit = 128 } = {}) => {
  const handler = { perform, isolate, concurrency, memoryLimit }
  return defineHandlers(operations, { act: handler, hurry: handler })
}

const open = (t: Test) => openJobs(t, Object.values(operations))

async function cancel(jobs: Jobs, id: string): Promise<void> {
  await jobs.database.kysely.transaction().execute((trx) => cancelJob(jobs.boss, trx, { id, principal: 'ann' }))
  const hints = createNotifier(jobs.database)
  hints.notify('cancel', [id])
  await hints.flush()
}

/** Waits until a job has reported how far it is, and answers what it said. */
const reported = (jobs: Jobs, id: string): Promise<string> =>
  until(async () => {
    const { percent, message } = await jobs.read(id)
    return percent !== null && (message ?? 'nothing')
  })

/** One that nobody has waited for yet is dead too. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

const failures = (jobs: Jobs) => jobs.query('select attempt, error from accepted.attempt order by started_at')

for (const isolate of ['process', 'thread'] as const) {
  t.test(`in a ${isolate} a job is what it is elsewhere, and what it says arrives`, async (t) => {
    const jobs = await open(t)
    const lines: string[] = []
    const log = pino({ serializers: { err: serializeError } }, { write: (line) => void lines.push(line) })
    await jobs.work(handlersFor(isolate), { log })
    const id = await jobs.add(act, { act: 'tell' })
    t.match(await jobs.ended(id), {
      ...{ state: 'succeeded', attempt: 1, resource: '/told/1' },
      result: {
        ...{ id, operation: 'act', payload: { act: 'tell' }, principal: 'ann', attempt: 1, maxAttempts: 2 },
        ...{ idempotencyKey: id, isMainThread: isolate === 'process', at: '1970-01-01T00:00:00.000Z' },
      },
    })
    const said = lines.map((line) => JSON.parse(line)).filter(({ job }) => job === id)
    t.match(said, [
      { level: 30, operation: 'act', attempt: 1, word: 'x', msg: 'told all' },
      { level: 40, part: 2, err: { type: 'TypeError', message: 'token=***', stack: /perform\.ts/ }, msg: 'not well' },
    ])
    t.match(said[1].err.cause, { type: 'Error', message: 'deep' })
  })

  t.test(`what is thrown in a ${isolate} arrives as what it is`, async (t) => {
    const jobs = await open(t)
    await jobs.work(handlersFor(isolate, { concurrency: 1 }))
    const ended = async (word: string) => jobs.ended(await jobs.add(act, { act: word }))
    t.match(await ended('job failed'), {
      ...{ state: 'failed', attempt: 1 },
      error: { code: 'unfit', message: 'It cannot be encoded', status: 422, details: [{ at: '7' }] },
    })
    t.match(await ended('retry after'), { state: 'succeeded', attempt: 1, result: { attempt: 1, performed: 2 } })
    for (const [word, message] of [
      ['throw', 'not so'],
      ['throw text', 'only words'],
      ['return what cannot be sent', /could not be cloned/],
      ['progress that is none', /101 is not between 0 and 100/],
    ] as const) {
      t.match(await ended(word), { state: 'failed', attempt: 2, error: { code: 'handler-error', message } }, word)
    }
  })

  t.test(`a job in a ${isolate} that ends when it is canceled leaves it for the next`, async (t) => {
    const jobs = await open(t)
    await jobs.work(handlersFor(isolate, { concurrency: 1 }))
    const id = await jobs.add(act, { act: 'until canceled' })
    const where = await reported(jobs, id)
    t.match(await jobs.read(id), { state: 'running', percent: 50 })
    await cancel(jobs, id)
    t.match(await jobs.ended(id), { state: 'canceled' })
    const { result } = await jobs.ended(await jobs.add(act, { act: 'where' }))
    t.equal(`${result.pid} ${result.threadId}`, where)
  })

  for (const [word, how] of [
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
    t.test(`${word} in a ${isolate} fails that attempt alone, and another takes its place`, async (t) => {
      const jobs = await open(t)
      const file = join(t.testdir(), 'go on')
      await jobs.work(handlersFor(isolate))
      const neighbour = await jobs.add(act, { act: 'until there is a file', file })
      await reported(jobs, neighbour)
      const id = await jobs.add(act, { act: word })
      const end = await jobs.ended(id)
      if (word === 'throw late') t.match(end, { state: 'failed', attempt: 2, error: { code: 'worker-crashed' } })
      else t.match(end, { state: 'succeeded', attempt: 2, result: { attempt: 2 } })
      t.match((await failures(jobs))[0], { attempt: 1, error: { code: 'worker-crashed', message: how } })
      await writeFile(file, '')
      t.match(await jobs.ended(neighbour), { state: 'succeeded', attempt: 1, result: { attempt: 1 } })
    })
  }

  t.test(`a loop without end in a ${isolate} fails that attempt alone, and is over before the next`, async (t) => {
    const jobs = await open(t)
    await jobs.work(handlersFor(isolate))
    const id = await jobs.add(hurry, { act: 'loop at first' })
    const pid = Number(await reported(jobs, id))
    const neighbour = await jobs.add(act, { act: 'where' })
    t.match(await jobs.ended(neighbour), { state: 'succeeded', attempt: 1 })
    t.match(await jobs.ended(id), { state: 'succeeded' })
    t.match((await failures(jobs))[0], { attempt: 1, error: { code: 'attempt-timeout' } })
    if (isolate === 'process') t.notOk(isAlive(pid))
  })

  t.test(`a job that loops in a ${isolate} ends when it is canceled`, async (t) => {
    const jobs = await open(t)
    await jobs.work(handlersFor(isolate, { concurrency: 1 }))
    const id = await jobs.add(act, { act: 'loop' })
    const pid = Number(await reported(jobs, id))
    await cancel(jobs, id)
    t.match(await jobs.ended(id), { state: 'canceled' })
    if (isolate === 'process') t.notOk(isAlive(pid))
    t.match(await jobs.ended(await jobs.add(act, { act: 'where' })), { state: 'succeeded' })
  })

  t.test(`a worker that stops hands back what loops in a ${isolate}, and leaves none behind`, async (t) => {
    const jobs = await open(t)
    const worker = await jobs.work(handlersFor(isolate), { graceSeconds: 0 })
    const idle = await jobs.ended(await jobs.add(hurry, { act: 'where' }))
    const id = await jobs.add(act, { act: 'loop' })
    const pid = Number(await reported(jobs, id))
    await worker.stop()
    t.match(await jobs.read(id), { state: 'queued', ended_at: null })
    t.match(await jobs.query("select state::text, retry_count from pgboss.job where name = 'act'"), [
      { state: 'created', retry_count: 0 },
    ])
    t.same(await jobs.query('select from accepted.attempt where job_id = $1', [id]), [])
    if (isolate === 'process') t.same([pid, idle.result.pid].filter(isAlive), [])
  })

  t.test(`one that ends between two jobs in a ${isolate} is nobody's fault`, async (t) => {
    const jobs = await open(t)
    await jobs.work(handlersFor(isolate, { concurrency: 1 }))
    for (let count = 0; count < 3; count++) {
      t.match(await jobs.ended(await jobs.add(act, { act: 'exit afterwards' })), { state: 'succeeded', attempt: 1 })
    }
    t.same(await failures(jobs), [])
  })
}

t.test('who gets what a worker hands back does not meet the child that performed it', async (t) => {
  const jobs = await open(t)
  const worker = await jobs.work(handlersFor('process'), { graceSeconds: 0 })
  const id = await jobs.add(act, { act: 'loop' })
  const pid = Number(await reported(jobs, id))
  await jobs.work(
    defineHandlers(operations, { act: { perform: async () => ({ met: isAlive(pid) }) }, hurry: { perform } }),
  )
  await worker.stop()
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1, result: { met: false } })
})

t.test('a child goes on when the whole group is told to end: that is for the worker to say', async (t) => {
  const jobs = await open(t)
  await jobs.work(handlersFor('process', { concurrency: 1 }))
  const { result, attempt } = await jobs.ended(await jobs.add(act, { act: 'be told to end' }))
  t.equal(attempt, 1)
  t.match(await jobs.ended(await jobs.add(act, { act: 'where' })), { result: { pid: result.pid } })
})

t.test('children end with a worker that is killed, even while they loop', async (t) => {
  const jobs = await open(t)
  const worker = await start(t, 'worker', { config, databaseUrl: `${jobs.database.pool.options.connectionString}` })
  const idle = await jobs.ended(await jobs.add(hurry, { act: 'where' }))
  const pid = Number(await reported(jobs, await jobs.add(act, { act: 'loop' })))
  t.same([pid, idle.result.pid].map(isAlive), [true, true])
  await worker.end('SIGKILL')
  await until(() => !isAlive(pid) && !isAlive(idle.result.pid))
})

t.test('a module that does not export what performs fails its jobs, and says so', async (t) => {
  const jobs = await open(t)
  const module = new URL('./fixtures/isolate/without-default.ts', import.meta.url)
  await jobs.work(defineHandlers(operations, { act: { perform: module }, hurry: { perform } }))
  t.match(await jobs.ended(await jobs.add(act, { act: 'tell' })), {
    ...{ state: 'failed', attempt: 2 },
    error: { code: 'handler-error', message: /without-default\.ts has no default export that performs/ },
  })
})

t.test('a handler that cannot be isolated stops the worker at its start', async (t) => {
  const jobs = await open(t)
  const hurry = { perform }
  for (const [wrong, message] of [
    [{ perform: async () => {}, isolate: 'thread' }, /'act': isolate needs a module/],
    [{ settle: async () => [], isolate: 'process' }, /'act': isolate needs a module/],
    [{ perform: async () => {}, memoryLimit: 64 }, /'act': memoryLimit is for a perform in a module/],
    [{ perform: './perform.ts' }, /'act': perform must be a function or the URL of a module/],
    [{ perform, isolate: 'fork' }, /'act': isolate must be 'process' or 'thread', not fork/],
    [{ perform, memoryLimit: 1 }, /'act': memoryLimit must be an integer of at least 16, in MiB, not 1/],
    [{ perform: new URL('./none.ts', import.meta.url) }, /'act': there is no module file:.*none\.ts/],
    [{ perform: new URL('https://example.com/perform.js') }, /'act': there is no module https:/],
  ] as const) {
    // @ts-expect-error most of them do not compile
    await t.rejects(jobs.work(defineHandlers(operations, { act: wrong, hurry })), { name: 'TypeError', message })
  }
})

t.test('what is built finds the entry of its children', async (t) => {
  const root = join(import.meta.dirname, '../..')
  const outDir = t.testdir()
  const tsc = join(root, 'node_modules/typescript/lib/tsc.js')
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', outDir], { cwd: root })
  const { startProcess, startThread } = await import(join(outDir, 'worker/child.js'))
  for (const start of [startProcess, startThread]) {
    const child = start()
    const module = 'data:text/javascript,export default async ({ payload }) => payload'
    const heard = new Promise((resolve) => {
      child.listener = { hear: resolve, end: resolve }
    })
    child.send({ type: 'perform', job: { module, logLevel: 'info', payload: 1 } })
    t.same(await heard, { type: 'begun' })
    child.send({ type: 'exit' })
    t.equal(await child.ended, 'exit code 0')
  }
})
