import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../src/db/notifier.ts'
import { readHorizon } from '../../src/jobs/changes.ts'
import type { Job } from '../../src/jobs/job.ts'
import { createWatcher } from '../../src/watch/watcher.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

const operation = defineOperation({ name: 'note.create', input: Type.Object({}) })

/** A watcher on jobs, whose statements are counted. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, [operation])
  const statements: string[] = []
  const { kysely } = jobs.database
  const counted = kysely.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: async ({ result, queryId }) => {
      statements.push(queryId.queryId)
      return result
    },
  })
  const watcher = createWatcher({ ...jobs.database, kysely: counted }, { onError: (error) => t.comment(error.message) })
  t.teardown(() => watcher.close())
  const hints = createNotifier(jobs.database)
  t.teardown(() => hints.flush())
  /** As those do who follow a principal. */
  const watchPrincipal = async (principal: string, onChange: (job: Job) => void) => {
    const stop = watcher.watchPrincipal(principal, onChange)
    watcher.lookSince(await readHorizon(kysely))
    return stop
  }
  /** Waits for the end of a look that begins from now on. */
  const looked = async () => {
    const before = statements.length
    await until(() => statements.length >= before + 2)
  }
  return { ...jobs, watcher, watchPrincipal, looked, hints, statements }
}

/** Changes every job, and says so when asked to. */
async function change({ query }: Jobs): Promise<void> {
  await query('update accepted.job set sequence = sequence + 1, updated_at = now()')
}

t.test('many waiters of many jobs: one query for a burst of hints, and each is told once', async (t) => {
  const set = await setUp(t)
  const ids = await Promise.all(Array.from({ length: 20 }, () => set.add(operation, {})))
  const told: string[] = []
  for (const id of ids) {
    for (let waiter = 0; waiter < 50; waiter++)
      set.watcher.watchJob(id, (job) => told.push(`${job.id} ${job.sequence}`))
  }
  // The first look tells what there is.
  await until(() => told.length === 1_000)
  await change(set)
  const before = set.statements.length
  set.hints.notify('status', ids)
  await until(() => told.length >= 2_000)
  t.equal(told.length, 2_000)
  t.same(new Set(told.slice(1_000)), new Set(ids.map((id) => `${id} 2`)))
  t.ok(set.statements.length - before <= 2, 'one for the hints, and perhaps the look of that second')
})

t.test('a principal hears of all its jobs, those to come as well, and of nobody else’s', async (t) => {
  const set = await setUp(t)
  const heard: Job[] = []
  await set.watchPrincipal('ann', (job) => heard.push(job))
  const mine = await set.add(operation, {})
  const theirs = await set.add(operation, {}, { principal: 'bob' })
  set.hints.notify('status', [theirs, mine])
  await until(() => heard.length > 0)
  await change(set)
  set.hints.notify('status', [theirs, mine])
  await until(() => heard.length > 1)
  t.same(
    heard.map(({ id, sequence }) => [id, sequence]),
    [
      [mine, '1'],
      [mine, '2'],
    ],
  )
})

t.test('without any notification, jobs and principals are looked at all the same', async (t) => {
  const set = await setUp(t)
  const id = await set.add(operation, {}, { principal: 'bob' })
  const ofJob: string[] = []
  const ofPrincipal: string[] = []
  set.watcher.watchJob(id, ({ sequence }) => ofJob.push(sequence))
  await set.watchPrincipal('ann', ({ sequence }) => ofPrincipal.push(sequence))
  await set.add(operation, {})
  await until(() => ofJob.length === 1 && ofPrincipal.length === 1)
  await change(set)
  await until(() => ofJob.length === 2 && ofPrincipal.length === 2)
  t.same(ofJob, ['1', '2'])
  t.same(ofPrincipal, ['1', '2'])
})

t.test('without any notification, the oldest of very many jobs of a principal is looked at, too', async (t) => {
  const set = await setUp(t)
  const oldest = await set.add(operation, {})
  await set.query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select gen_random_uuid(), operation, principal, max_attempts, expires_at
    from accepted.job, generate_series(1, 3000)`)
  await set.query("update accepted.job set updated_at = updated_at - interval '1 hour'")
  const told: string[] = []
  await set.watchPrincipal('ann', ({ id, sequence }) => told.push(`${id} ${sequence}`))
  await set.looked()
  t.same(told, [])
  await set.query('update accepted.job set sequence = 2, updated_at = now() where id = $1', [oldest])
  await until(() => told.length > 0)
  t.same(told, [`${oldest} 2`])
})

t.test('without any notification, what a slow transaction changed is told when it has committed', async (t) => {
  const set = await setUp(t)
  const told: string[] = []
  await set.watchPrincipal('ann', ({ sequence }) => told.push(sequence))
  const id = await set.add(operation, {})
  await until(() => told.length === 1)
  const slow = await set.database.pool.connect()
  await slow.query('begin')
  await slow.query('update accepted.job set sequence = sequence + 1, updated_at = statement_timestamp()')
  const { rows } = await slow.query('select now() as begun')
  // Everybody else goes on meanwhile.
  const looks = set.statements.length
  await until(() => set.statements.length >= looks + 6)
  const horizon = set.watcher.horizon()
  t.ok(horizon && horizon < rows[0].begun, 'what is under way holds the horizon')
  await slow.query('commit')
  slow.release()
  await until(() => told.length === 2)
  t.same(told, ['1', '2'])
  await until(() => (set.watcher.horizon() as Date) > rows[0].begun)
  t.equal((await set.read(id)).sequence, '2')
})

t.test('what changes while nobody follows a principal is not looked for when somebody does again', async (t) => {
  const set = await setUp(t)
  await set.add(operation, {})
  set.watcher.watchJob(await set.add(operation, {}, { principal: 'bob' }), () => {})
  const stop = await set.watchPrincipal('ann', () => {})
  await until(() => set.watcher.horizon())
  stop()
  await until(() => set.watcher.horizon() === undefined)
  await change(set)
  const [{ changed }] = (await set.query('select max(updated_at) as changed from accepted.job')) as [{ changed: Date }]
  await until(async () => (await readHorizon(set.database.kysely)) > changed)
  const told: string[] = []
  await set.watchPrincipal('ann', ({ id }) => told.push(id))
  await set.looked()
  const later = await set.add(operation, {})
  await until(() => told.length > 0)
  t.same(told, [later])
})

t.test('a look goes back to where the earliest of those began who came, whoever’s jobs are read first', async (t) => {
  const set = await setUp(t)
  const told: string[] = []
  set.watcher.watchPrincipal('ann', ({ id }) => told.push(id))
  const sinceAnn = await readHorizon(set.database.kysely)
  const missed = await set.add(operation, {})
  const { updated_at } = await set.read(missed)
  const sinceBob = await until(async () => {
    const horizon = await readHorizon(set.database.kysely)
    return horizon > updated_at && horizon
  })
  set.watcher.watchPrincipal('bob', () => {})
  set.watcher.lookSince(sinceBob)
  await set.looked()
  t.same(told, [])
  set.watcher.lookSince(sinceAnn)
  await until(() => told.length > 0)
  t.same(told, [missed])
})

t.test('what a look finds again and again is told once, however many they are', async (t) => {
  const set = await setUp(t)
  const times = new Map<string, number>()
  await set.watchPrincipal('ann', ({ id }) => times.set(id, (times.get(id) ?? 0) + 1))
  const holder = await set.database.pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query('begin')
  await holder.query('select pg_current_xact_id()')
  const id = await set.add(operation, {})
  await set.query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select gen_random_uuid(), operation, principal, max_attempts, expires_at
    from accepted.job, generate_series(1, 12000)`)
  await until(() => times.size === 12_001)
  await set.looked()
  t.equal(times.get(id), 1)
  t.same(new Set(times.values()), new Set([1]))
})

t.test('who watches what is no id, and who hints at it, keep nobody from being told', async (t) => {
  const set = await setUp(t)
  const told: string[] = []
  set.watcher.watchJob('x', () => {})
  await set.watchPrincipal('ann', ({ id }) => told.push(id))
  const id = await set.add(operation, {})
  set.hints.notify('status', ['x', id])
  await set.looked()
  t.same(told, [id])
})

t.test('one that throws keeps nobody else from being told', async (t) => {
  const set = await setUp(t)
  const told: string[] = []
  for (const id of [await set.add(operation, {}), await set.add(operation, {})]) {
    set.watcher.watchJob(id, () => {
      throw new Error('a broken client')
    })
    set.watcher.watchJob(id, (job) => told.push(job.id))
  }
  await set.watchPrincipal('ann', (job) => told.push(job.id))
  await until(() => told.length === 4)
})

t.test('hints that come one after the other are gathered', async (t) => {
  const set = await setUp(t)
  const ids = await Promise.all(Array.from({ length: 200 }, () => set.add(operation, {})))
  const told = new Set<string>()
  for (const id of ids) set.watcher.watchJob(id, ({ sequence }) => sequence === '2' && told.add(id))
  const before = set.statements.length
  // While the first query waits for the table, hints come one after the other.
  const holder = await set.database.pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query('begin')
  await holder.query('lock table accepted.job in access exclusive mode')
  await holder.query('update accepted.job set sequence = 2')
  for (const id of ids) await set.query("select pg_notify('accepted_status', $1)", [id])
  await holder.query('commit')
  await until(() => told.size === ids.length)
  const queries = set.statements.length - before
  t.ok(queries <= 4, `${queries} queries for ${ids.length} hints`)
})

t.test('a connection that breaks: what changed meanwhile is told, and it listens again', async (t) => {
  const set = await setUp(t)
  const { options } = set.database
  const proxy = await startProxy(t, options.url)
  const through = createWatcher(
    { ...set.database, options: { ...options, listenUrl: proxy.url } },
    { onError: (error) => t.comment(error.message) },
  )
  t.teardown(() => through.close())
  const id = await set.add(operation, {})
  const told: string[] = []
  through.watchJob(id, ({ sequence }) => told.push(sequence))
  await until(() => told.length === 1)
  await proxy.close()
  await change(set)
  await until(() => told.includes('2'))
  await proxy.open()
  const listening = async () =>
    (await set.query(`select from pg_stat_activity where datname = current_database() and query like 'listen%'`))
      .length === 2
  await until(listening)
  await change(set)
  set.hints.notify('status', [id])
  await until(() => told.includes('3'))
  t.same(told, ['1', '2', '3'])
})

t.test('who has stopped watching hears nothing, and nothing is asked of Postgres for nobody', async (t) => {
  const set = await setUp(t)
  const id = await set.add(operation, {})
  let told = 0
  const stop = set.watcher.watchJob(id, () => told++)
  await until(() => told === 1)
  stop()
  t.same(set.watcher.count(), { jobs: 0, principals: 0 })
  const before = set.statements.length
  await change(set)
  set.hints.notify('status', [id])
  await set.hints.flush()
  // Another watcher of the same process is told, so that the hint has been heard by now.
  const other = await set.add(operation, {})
  let others = 0
  set.watcher.watchJob(other, () => others++)
  await until(() => others === 1)
  t.equal(told, 1)
  t.ok(set.statements.length - before <= 2)
})
