import { randomBytes } from 'node:crypto'
import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { openDatabase } from '../../src/db/database.ts'
import { createNotifier } from '../../src/db/notifier.ts'
import { readChangePosition } from '../../src/jobs/changes.ts'
import type { Job } from '../../src/jobs/job.ts'
import { Watcher } from '../../src/watch/watcher.ts'
import { beginTransaction } from '../support/database.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'

const operation = defineOperation({ name: 'note.create', input: Type.Object({}) })

/** Creates a watcher and records its queries. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, [operation])
  const statements: string[] = []
  const reads = new WeakSet<object>()
  const { kysely } = jobs.database
  const counted = kysely.withPlugin({
    transformQuery: ({ node, queryId }) => {
      // Leaves out the statements that set the plan and commit.
      if (JSON.stringify(node).includes('accepted.job')) reads.add(queryId)
      return node
    },
    transformResult: async ({ result, queryId }) => {
      if (reads.has(queryId)) statements.push(queryId.queryId)
      return result
    },
  })
  const watcher = new Watcher({ ...jobs.database, kysely: counted }, { onError: (error) => t.comment(error.message) })
  t.teardown(() => watcher.close())
  const notifier = createNotifier(jobs.database)
  t.teardown(() => notifier.flush())
  /** Watches a principal and makes polls read the jobs of the principal, as the event streams do. */
  const watchPrincipal = async (principal: string, onChange: (job: Job) => void) => {
    const stop = watcher.watchPrincipal(principal, onChange)
    watcher.pollSince(await readChangePosition(kysely))
    return stop
  }
  /** Waits until a query that started after this call has ended. */
  const polled = async () => {
    const before = statements.length
    await until(() => statements.length >= before + 2)
  }
  return { ...jobs, watcher, watchPrincipal, polled, notifier, statements }
}

/** Changes every job, without a notification. */
async function change({ query }: Jobs): Promise<void> {
  await query('update accepted.job set sequence = sequence + 1, updated_at = now()')
}

t.test(
  'a burst of notifications for many jobs causes one query, and each listener of each job is called once',
  async (t) => {
    const set = await setUp(t)
    const ids = await Promise.all(Array.from({ length: 20 }, () => set.add(operation, {})))
    const delivered: string[] = []
    for (const id of ids) {
      for (let number = 0; number < 50; number++)
        set.watcher.watchJob(id, (job) => delivered.push(`${job.id} ${job.sequence}`))
    }
    // The first poll delivers the current status.
    await until(() => delivered.length === 1_000)
    await change(set)
    const before = set.statements.length
    set.notifier.notify('status', ids)
    await until(() => delivered.length >= 2_000)
    t.equal(delivered.length, 2_000)
    t.same(new Set(delivered.slice(1_000)), new Set(ids.map((id) => `${id} 2`)))
    t.ok(
      set.statements.length - before <= 2,
      'there is one query for the notifications, and perhaps another query for a poll',
    )
  },
)

t.test(
  'a watch on a principal delivers the changes of all its jobs, including new jobs, but of no other jobs',
  async (t) => {
    const set = await setUp(t)
    const delivered: Job[] = []
    await set.watchPrincipal('ann', (job) => delivered.push(job))
    const annsJob = await set.add(operation, {})
    const bobsJob = await set.add(operation, {}, { principal: 'bob' })
    set.notifier.notify('status', [bobsJob, annsJob])
    await until(() => delivered.length > 0)
    await change(set)
    set.notifier.notify('status', [bobsJob, annsJob])
    await until(() => delivered.length > 1)
    t.same(
      delivered.map(({ id, sequence }) => [id, sequence]),
      [
        [annsJob, '1'],
        [annsJob, '2'],
      ],
    )
  },
)

t.test('without notifications, a poll finds the changes of jobs and principals', async (t) => {
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

t.test('without notifications, a poll finds a change of a job, even if thousands of jobs are newer', async (t) => {
  const set = await setUp(t)
  const oldest = await set.add(operation, {})
  await set.query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select accepted.uuid7(), operation, principal, max_attempts, expires_at
    from accepted.job, generate_series(1, 3000)`)
  await set.query("update accepted.job set updated_at = updated_at - interval '1 hour'")
  const delivered: string[] = []
  await set.watchPrincipal('ann', ({ id, sequence }) => delivered.push(`${id} ${sequence}`))
  await set.polled()
  t.same(delivered, [])
  await set.query('update accepted.job set sequence = 2, updated_at = now() where id = $1', [oldest])
  await until(() => delivered.length > 0)
  t.same(delivered, [`${oldest} 2`])
})

t.test('without notifications, the changes of a slow transaction are delivered after it has committed', async (t) => {
  const set = await setUp(t)
  const delivered: string[] = []
  await set.watchPrincipal('ann', ({ sequence }) => delivered.push(sequence))
  const id = await set.add(operation, {})
  await until(() => delivered.length === 1)
  const slow = await beginTransaction(t, set.database, 'update accepted.job set sequence = 2, updated_at = now()')
  // Polls continue while the transaction is open, and read the changes of other transactions once.
  await set.add(operation, {})
  await set.add(operation, {})
  await until(() => delivered.length === 3)
  await set.polled()
  await set.polled()
  await slow.commit()
  await until(() => delivered.length === 4)
  t.same(delivered, ['1', '1', '1', '2'])
  t.equal((await set.read(id)).sequence, '2')
})

t.test(
  'without notifications, a watcher delivers the changes of a role whose transactions it cannot see',
  async (t) => {
    const set = await setUp(t)
    const role = `watcher_${randomBytes(6).toString('hex')}`
    await set.query(`create role ${role} login password 'secret' in role accepted_api`)
    const url = new URL(set.database.options.url)
    Object.assign(url, { username: role, password: 'secret' })
    const database = openDatabase({ ...set.database.options, url: url.href, listenUrl: url.href })
    t.teardown(async () => {
      await database.close()
      await set.query(`drop role ${role}`)
    })
    const watcher = new Watcher(database, { onError: (error) => t.fail(error.message) })
    t.teardown(() => watcher.close())
    const delivered: string[] = []
    watcher.watchPrincipal('ann', ({ id, sequence }) => delivered.push(`${id} ${sequence}`))
    watcher.pollSince(await readChangePosition(database.kysely))
    const id = await set.add(operation, {})
    await until(() => delivered.length === 1)
    const slow = await beginTransaction(t, set.database, 'update accepted.job set sequence = 2, updated_at = now()')
    const { rows } = await database.pool.query(
      'select max(xact_start) as xact_start from pg_stat_activity where backend_xid is not null',
    )
    t.same(rows, [{ xact_start: null }], 'the role of the watcher does not see when the transaction began')
    // The transaction is open during several polls, which deliver other jobs.
    for (let count = 2; count <= 6; count++) {
      await set.add(operation, {})
      await until(() => delivered.length === count)
    }
    await slow.commit()
    await until(() => delivered.length === 7)
    t.equal(delivered[6], `${id} 2`)
  },
)

t.test('a new watch on a principal does not deliver changes from before the watch', async (t) => {
  const set = await setUp(t)
  await set.add(operation, {})
  set.watcher.watchJob(await set.add(operation, {}, { principal: 'bob' }), () => {})
  const stop = await set.watchPrincipal('ann', () => {})
  await until(() => set.watcher.position)
  stop()
  await until(() => set.watcher.position === undefined)
  await change(set)
  const delivered: string[] = []
  await set.watchPrincipal('ann', ({ id }) => delivered.push(id))
  await set.polled()
  const later = await set.add(operation, {})
  await until(() => delivered.length > 0)
  t.same(delivered, [later])
})

t.test('a poll reads all changes since the earliest requested time, whichever request came first', async (t) => {
  const set = await setUp(t)
  const delivered: string[] = []
  set.watcher.watchPrincipal('ann', ({ id }) => delivered.push(id))
  const sinceAnn = await readChangePosition(set.database.kysely)
  const missed = await set.add(operation, {})
  const sinceBob = await readChangePosition(set.database.kysely)
  set.watcher.watchPrincipal('bob', () => {})
  set.watcher.pollSince(sinceBob)
  await set.polled()
  t.same(delivered, [])
  set.watcher.pollSince(sinceAnn)
  await until(() => delivered.length > 0)
  t.same(delivered, [missed])
})

t.test('while a transaction is open, each of 12,000 changes is delivered once', async (t) => {
  const set = await setUp(t)
  const deliveries = new Map<string, number>()
  await set.watchPrincipal('ann', ({ id }) => deliveries.set(id, (deliveries.get(id) ?? 0) + 1))
  const holder = await set.database.pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query('begin')
  await holder.query('select pg_current_xact_id()')
  const id = await set.add(operation, {})
  await set.query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select accepted.uuid7(), operation, principal, max_attempts, expires_at
    from accepted.job, generate_series(1, 12000)`)
  await until(() => deliveries.size === 12_001)
  await set.polled()
  t.equal(deliveries.get(id), 1)
  t.same(new Set(deliveries.values()), new Set([1]))
})

t.test('a malformed id in a watch or in a notification does not stop other deliveries', async (t) => {
  const set = await setUp(t)
  const delivered: string[] = []
  set.watcher.watchJob('x', () => {})
  await set.watchPrincipal('ann', ({ id }) => delivered.push(id))
  const id = await set.add(operation, {})
  set.notifier.notify('status', ['x', id])
  await set.polled()
  t.same(delivered, [id])
})

t.test('a listener that throws does not stop other deliveries', async (t) => {
  const set = await setUp(t)
  const delivered: string[] = []
  for (const id of [await set.add(operation, {}), await set.add(operation, {})]) {
    set.watcher.watchJob(id, () => {
      throw new Error('a broken client')
    })
    set.watcher.watchJob(id, (job) => delivered.push(job.id))
  }
  await set.watchPrincipal('ann', (job) => delivered.push(job.id))
  await until(() => delivered.length === 4)
})

t.test('notifications in quick succession share a query', async (t) => {
  const set = await setUp(t)
  const ids = await Promise.all(Array.from({ length: 200 }, () => set.add(operation, {})))
  const delivered = new Set<string>()
  for (const id of ids) set.watcher.watchJob(id, ({ sequence }) => sequence === '2' && delivered.add(id))
  const before = set.statements.length
  // Notifications arrive one by one while the first query waits for the table lock.
  const holder = await set.database.pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query('begin')
  await holder.query('lock table accepted.job in access exclusive mode')
  await holder.query('update accepted.job set sequence = 2')
  for (const id of ids) await set.query("select pg_notify('accepted_status', $1)", [id])
  await holder.query('commit')
  await until(() => delivered.size === ids.length)
  const queries = set.statements.length - before
  t.ok(queries <= 4, `${queries} queries for ${ids.length} notifications`)
})

t.test(
  'while the listening connection is broken, polls deliver the changes; afterwards the watcher listens again',
  async (t) => {
    const set = await setUp(t)
    const { options } = set.database
    const proxy = await startProxy(t, options.url)
    const watcher = new Watcher(
      { ...set.database, options: { ...options, listenUrl: proxy.url } },
      { onError: (error) => t.comment(error.message) },
    )
    t.teardown(() => watcher.close())
    const id = await set.add(operation, {})
    const delivered: string[] = []
    watcher.watchJob(id, ({ sequence }) => delivered.push(sequence))
    await until(() => delivered.length === 1)
    await proxy.close()
    await change(set)
    await until(() => delivered.includes('2'))
    await proxy.open()
    const listening = async () =>
      (await set.query(`select from pg_stat_activity where datname = current_database() and query like 'listen%'`))
        .length === 2
    await until(listening)
    await change(set)
    set.notifier.notify('status', [id])
    await until(() => delivered.includes('3'))
    t.same(delivered, ['1', '2', '3'])
  },
)

t.test('a stopped watch delivers nothing more, and a watcher without watches sends no queries', async (t) => {
  const set = await setUp(t)
  const id = await set.add(operation, {})
  let delivered = 0
  const stop = set.watcher.watchJob(id, () => delivered++)
  await until(() => delivered === 1)
  stop()
  t.same(set.watcher.size, { jobs: 0, principals: 0 })
  const before = set.statements.length
  await change(set)
  set.notifier.notify('status', [id])
  await set.notifier.flush()
  // When another watch has received its job, the earlier notification has arrived too.
  const other = await set.add(operation, {})
  let otherDelivered = 0
  set.watcher.watchJob(other, () => otherDelivered++)
  await until(() => otherDelivered === 1)
  t.equal(delivered, 1)
  t.ok(set.statements.length - before <= 2)
})
