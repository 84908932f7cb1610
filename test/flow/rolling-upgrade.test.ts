import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { serve } from '../support/api.ts'
import { post } from '../support/client.ts'
import { asRole } from '../support/database.ts'
import { openJobs, writeEffects } from '../support/jobs.ts'
import { createNextRelease } from '../support/next-release.ts'
import { until } from '../support/until.ts'

const input = Type.Object({ word: Type.String() })
const settled = defineOperation({ name: 'word.settle', route: { method: 'POST', url: '/settled' }, input })
const performed = defineOperation({ name: 'word.perform', route: { method: 'POST', url: '/performed' }, input })
const operations = { settled, performed }

const handlers = defineHandlers(operations, {
  'word.settle': { settle: (trx, jobs) => writeEffects(trx, jobs) },
  'word.perform': { perform: async (job) => job.progress(50), settle: (trx, jobs) => writeEffects(trx, jobs) },
})

/** So many clients send one request after another. */
const clientCount = 4

// The row rolling-upgrade of the fault matrix also starts processes of the next release.
t.test('while the next release migrates, no request fails, and every job is done once', async (t) => {
  const next = join(await mkdtemp(join(tmpdir(), 'accepted-next-')), 'release')
  t.teardown(() => rm(join(next, '..'), { recursive: true }))
  await createNextRelease(next)
  const { url, database } = await serve(t, { operations })
  const databaseUrl = database.options.url
  const { query, work } = await openJobs(t, Object.values(operations), databaseUrl)
  await work(handlers)

  const statuses: number[] = []
  let isStopping = false
  const send = async () => {
    for (let n = 0; !isStopping; n++) {
      const key = n % 2 === 0 ? { 'idempotency-key': crypto.randomUUID() } : {}
      const { status } = await post(`${url}/${n % 4 < 2 ? 'settled' : 'performed'}`, { word: 'x' }, key)
      statuses.push(status)
    }
  }
  const clients = Promise.all(Array.from({ length: clientCount }, send))
  const countEffects = async () => (await query('select count(*)::integer as count from effect'))[0].count as number
  const untilMoreAreDone = async () => {
    const [accepted, done] = [statuses.length, await countEffects()]
    await until(async () => statuses.length > accepted + 20 && (await countEffects()) > done + 20)
  }

  await untilMoreAreDone()
  const path = join(next, 'src/migrate/migrate.ts')
  const { migrate }: typeof import('../../src/migrate/migrate.ts') = await import(path)
  const steps: string[] = []
  await migrate({ url: asRole(databaseUrl, 'migrate'), onStep: ({ name }) => steps.push(name) })
  t.same(steps, ['9999_next_release'])
  await untilMoreAreDone()
  isStopping = true
  await clients
  await until(async () => (await query('select from accepted.job where ended_at is null')).length === 0)

  t.same(new Set(statuses), new Set([202]))
  const [result] = await query(`
    select count(*)::integer as jobs, count(*) filter (where status = 'succeeded' and attempt = 1)::integer as succeeded,
      (select count(*)::integer from effect) as effects,
      (select count(distinct job_id)::integer from effect) as jobs_with_effect
    from accepted.job`)
  const all = statuses.length
  t.same(result, { jobs: all, succeeded: all, effects: all, jobs_with_effect: all })
})
