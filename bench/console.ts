/**
 * Fills a database with a million jobs and measures how long each page of the console takes: `node bench/console.ts`.
 * With a number as the argument, it adds so many jobs.
 */
import { join } from 'node:path'
import Fastify from 'fastify'
import Type from 'typebox'
import { accepted } from '../src/http/accepted.ts'
import { defineOperation } from '../src/operation.ts'
import { addWaiting, seedWeek } from './core/seed-week.ts'
import { query, startServer } from './core/server.ts'
import { withWorkspace } from './core/workspace.ts'

const rounds = 40
const maxMs = 300

const operations = { op: defineOperation({ name: 'console.op', input: Type.Object({}) }) }

/** Finds examples of what the pages show. */
async function findExamples(url: string): Promise<Record<string, string>> {
  const [row] = await query<Record<string, string>>(
    url,
    `select
      (select id from accepted.job where status = 'failed' order by id limit 1) as failed,
      (select principal from accepted.job where status = 'failed' order by id limit 1) as principal,
      (select idempotency_key from accepted.job where idempotency_key is not null order by id limit 1) as key,
      (select parent from accepted.job where parent is not null order by id limit 1) as parent,
      (select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI') from accepted.job order by id offset 100000 limit 1) as early`,
  )
  return row ?? {}
}

const pathsOf = ({ failed, principal = '', key = '', parent, early = '' }: Record<string, string>) => [
  '',
  '/stuck',
  '/operations',
  '/operations/week.op3',
  '/workers',
  `/jobs/${failed}`,
  '/jobs',
  '/jobs?size=1000',
  '/jobs?size=1000&status=failed',
  '/jobs?status=failed&error=error-3&operation=week.op3',
  '/jobs?error=absent',
  '/jobs?status=running',
  '/jobs?status=queued',
  '/jobs?status=queued&operation=week.op3',
  '/jobs?status=canceled',
  '/jobs?status=succeeded&operation=week.op7',
  '/jobs?operation=absent',
  `/jobs?principal=${principal}`,
  `/jobs?key=${key}`,
  `/jobs?resource=%2Fabsent`,
  `/jobs?parent=${parent}`,
  `/jobs?to=${early}`,
  '/jobs/bulk?action=redrive&status=failed',
  '/jobs/bulk?action=cancel&status=queued&operation=week.op3',
]

async function measure(base: string, path: string): Promise<{ p50: number; p95: number; bytes: number }> {
  const times: number[] = []
  let bytes = 0
  for (let round = 0; round < rounds; round++) {
    const startedAt = performance.now()
    const response = await fetch(base + path)
    bytes = (await response.text()).length
    times.push(performance.now() - startedAt)
    if (response.status !== 200) throw new Error(`${path} answered ${response.status}`)
  }
  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.ceil(share * times.length) - 1] ?? Number.NaN
  return { p50: at(0.5), p95: at(0.95), bytes }
}

await withWorkspace(async ({ directory, onClose }) => {
  const server = await startServer(join(directory, 'server'), join(import.meta.dirname, 'app/migrations'))
  onClose(() => server.stop())
  const url = await server.createOurs('console')
  const jobs = Number(process.argv[2] ?? 1_000_000)
  console.log(`Adding ${jobs} jobs`)
  await seedWeek(url, jobs)
  await addWaiting(url, { due: jobs / 10, deferred: jobs / 10 })
  await query(url, 'vacuum analyze')
  const app = Fastify({ pluginTimeout: 60_000 })
  await app.register(accepted, { operations, database: url, rateLimit: false })
  onClose(() => app.close())
  const base = `${await app.listen({ host: '127.0.0.1', port: 0 })}/console`
  console.log('| page | p50 (ms) | p95 (ms) | KB |\n|---|---|---|---|')
  let slowest = 0
  for (const path of pathsOf(await findExamples(url))) {
    const { p50, p95, bytes } = await measure(base, path)
    slowest = Math.max(slowest, p95)
    console.log(`| /console${path} | ${p50.toFixed(1)} | ${p95.toFixed(1)} | ${Math.round(bytes / 1024)} |`)
  }
  if (slowest > maxMs) process.exitCode = 1
})
